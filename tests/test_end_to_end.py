"""Real pictures and questions through a real server, against the plain path."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import easy_vqa
import pytest

from steelyard.schema import ScoreStepsRequest, ScoreStepsResponse, StepScores
from tests.conformance import visualprm
from tests.conformance.in_process import VisualPRMInProcess
from tests.golden import VISUAL_PRM
from tests.service.running import DEMO, Running, scored, shared

GROUPS = 24


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def easy_vqa_groups() -> list[tuple[Path, str, list[str]]]:
    """Picture, question, and a right and a wrong chain of different lengths."""
    questions, answers, pictures = easy_vqa.get_test_questions()
    paths = easy_vqa.get_test_image_paths()
    chosen = list(zip(questions, answers, pictures, strict=True))[:: len(questions) // GROUPS][:GROUPS]
    return [
        (
            Path(paths[picture]),
            question,
            [
                f"I look at the picture.\n\nThe question is {question}\n\nThe answer is {answer}.",
                f"The answer is not {answer}.",
            ],
        )
        for question, answer, picture in chosen
    ]


def test_groups_over_http_equal_the_plain_path(server: Running) -> None:
    groups = easy_vqa_groups()
    assert len({question for _, question, _ in groups}) > 5
    with server.client() as client:

        def ask(group: tuple[Path, str, list[str]]) -> tuple[ScoreStepsRequest, ScoreStepsResponse]:
            path, question, candidates = group
            stored = client.put("/images", content=path.read_bytes())
            request = ScoreStepsRequest(question=question, images=[stored.json()["id"]], candidates=candidates)
            body = request.model_dump_json()
            return request, scored(client.post("/score_steps", content=body))

        with ThreadPoolExecutor(8) as pool:
            asked = list(pool.map(ask, groups))
    backend = VisualPRMInProcess(DEMO, "float32")
    for (path, _, _), (request, answer) in zip(groups, asked, strict=True):
        backend.store(path.read_bytes())
        for expected, found in zip(backend.oracle(request), answer.results, strict=True):
            assert isinstance(expected, StepScores)
            assert found.status == expected.status == "ok"
            assert found.step_scores == pytest.approx(expected.step_scores, rel=1e-5, abs=1e-5)
            assert found.step_logits == pytest.approx(expected.step_logits, rel=1e-5, abs=1e-5)


def test_every_golden_case_over_http(server: Running) -> None:
    found = list(visualprm.verdicts(VISUAL_PRM / "cases.jsonl", None, server.url))
    assert [f"{verdict.id}: {line}" for verdict in found for line in verdict.differences] == []
    assert len(found) > 60


def test_a_long_prompt_over_http_does_not_change_a_short_one(server: Running) -> None:
    (verdict,) = visualprm.verdicts(VISUAL_PRM / "stateful_rope.json", None, server.url)
    assert verdict.differences == []
