"""The public golden cases, through the same code as `python -m tests.conformance`."""

import json
import statistics
from collections.abc import Iterator

import pytest

from steelyard.schema import ScoreStepsRequest, ScoreStepsResponse
from tests.conformance import visualprm
from tests.conformance.in_process import VisualPRMInProcess
from tests.conformance.report import TOLERANCE, Verdict
from tests.golden import GOLDEN

FOLDER = GOLDEN / "visualprm"


def differences(verdicts: Iterator[Verdict]) -> list[str]:
    found = list(verdicts)
    assert found
    return [f"{verdict.id}: {line}" for verdict in found for line in verdict.differences]


def test_every_case_has_the_references_ids_tiles_pixels_and_scores() -> None:
    assert differences(visualprm.verdicts(FOLDER / "cases.jsonl", None, None)) == []


def test_the_real_tokenizer_gives_the_references_ids() -> None:
    assert differences(visualprm.verdicts(FOLDER / "real_tokenizer_prompts.jsonl", None, None)) == []


def test_a_long_prompt_does_not_change_the_scores_of_a_short_one() -> None:
    assert differences(visualprm.verdicts(FOLDER / "stateful_rope.json", None, None)) == []


def test_bfloat16_is_as_close_to_float32_as_the_references_own_run() -> None:
    rows = [json.loads(line) for line in (FOLDER / "bf16_soft_v2.jsonl").read_text().splitlines()]
    theirs = [row["max_abs_diff_vs_float32"] for row in rows]
    found = list(visualprm.verdicts(FOLDER / "bf16_soft_v2.jsonl", None, None))
    assert [verdict.differences for verdict in found] == [[]] * len(rows)
    ours = [verdict.off_float32 for verdict in found]
    assert statistics.median(ours) <= statistics.median(theirs)
    assert max(ours) <= max(theirs)


@pytest.fixture(scope="module")
def requests() -> list[ScoreStepsRequest]:
    cases = visualprm.inputs(FOLDER / "cases.jsonl").values()
    return [visualprm.request_of(case, FOLDER) for case in cases if visualprm.is_scorable(case)]


@pytest.fixture(scope="module")
def alone(requests: list[ScoreStepsRequest]) -> list[ScoreStepsResponse]:
    backend = VisualPRMInProcess(FOLDER / "tiny-visualprm", "float32")
    return [backend.score(request) for request in requests]


@pytest.mark.parametrize(("seed", "batch_tokens"), [(0, 100_000), (1, 2_000), (2, 500), (3, 1)])
def test_scores_do_not_depend_on_company(
    seed: int, batch_tokens: int, requests: list[ScoreStepsRequest], alone: list[ScoreStepsResponse]
) -> None:
    """All cases at once, in a random order, in batches of many sizes, against each on its own."""
    together = VisualPRMInProcess(FOLDER / "tiny-visualprm", "float32", batch_tokens).shuffled(requests, seed)
    verdict = Verdict("company")
    for one, other in zip(alone, together, strict=True):
        for expected, found in zip(one.results, other.results, strict=True):
            assert expected.step_scores is not None
            verdict.closely("step_scores", found.step_scores, expected.step_scores, TOLERANCE)
    assert verdict.differences == []
