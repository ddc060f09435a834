"""The committed checkpoints, through the path that the server takes: they see what a picture shows."""

from pathlib import Path

import pytest

from demo.facts import Facts, pictures
from service.settings import DEMO
from steelyard.schema import OutcomeScore, ScoreOutcomesRequest, ScoreStepsRequest, StepScores
from tests.conformance.in_process import InProcess

QUESTION = "is there a red shape in the image?"
YES = ["The shape is a circle.", "Its color is red.", "So there is a red shape.", "Answer: yes"]
NO = ["The shape is a circle.", "Its color is blue.", "So there is not a red shape.", "Answer: no"]
RED, BLUE = Facts("circle", "red"), Facts("circle", "blue")


def picture(facts: Facts) -> bytes:
    """The first of the test split that shows these facts."""
    return next(shown.path.read_bytes() for shown in pictures("test") if shown.facts == facts)


@pytest.mark.parametrize(("shown", "best"), [(RED, 0), (BLUE, 1)])
def test_a_hand_written_right_chain_scores_above_a_wrong_one(shown: Facts, best: int) -> None:
    model = InProcess(DEMO / "visualprm", "float32")
    request = ScoreStepsRequest(question=QUESTION, images=[model.store(picture(shown))], candidates=[YES, NO])
    scores = [result.step_scores for result in model.score(request).results if isinstance(result, StepScores)]
    right, wrong = scores[best], scores[1 - best]
    assert right is not None
    assert wrong is not None
    assert min(right) > 0.5
    assert wrong[0] > 0.5
    assert max(wrong[1:]) < 0.5


@pytest.mark.parametrize(("shown", "best"), [(RED, 0), (BLUE, 1)])
def test_a_hand_written_right_answer_beats_a_wrong_one(shown: Facts, best: int) -> None:
    model = InProcess(DEMO / "ixc_reward", "float32")
    request = ScoreOutcomesRequest.model_validate(
        {
            "messages": [{"role": "user", "content": QUESTION}],
            "images": [model.store(picture(shown))],
            "candidates": ["\n\n".join(chain) for chain in (YES, NO)],
        }
    )
    scores = [result.score for result in model.score_outcomes(request).results if isinstance(result, OutcomeScore)]
    assert all(score is not None for score in scores)
    assert max(range(2), key=lambda index: scores[index] or 0.0) == best


@pytest.mark.parametrize("name", ["visualprm", "ixc_reward"])
def test_a_checkpoint_is_small_and_has_its_card(name: str) -> None:
    folder: Path = DEMO / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000
    assert "## Limits" in (folder / "README.md").read_text(encoding="utf-8")
