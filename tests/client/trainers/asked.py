"""One question about a picture with two responses, as the tests of the adapters ask it, and its scores."""

from steelyard import Client
from steelyard.schema import StepScores
from tests.service.running import ROOT

PICTURE = str(ROOT / "examples" / "circle.png")
QUESTION = "what is the green shape?"
RESPONSES = ["I see a circle.\n\nIt is green.", "Answer: triangle"]
LABEL = {"question": QUESTION, "images": [PICTURE]}
# Refused when it is asked to be.
CONTROL = "It is <IMG_CONTEXT>"
CLOSE = 1e-4


def steps(url: str) -> list[StepScores]:
    with Client(url) as client:
        return client.score_steps(QUESTION, [PICTURE], RESPONSES, control_tokens="literal").results


def scores(url: str) -> list[float]:
    """Of the responses, by the model of steps."""
    return [result.score for result in steps(url) if result.score is not None]


def outcomes(url: str) -> list[float]:
    """Of the responses, by the model of outcomes."""
    with Client(url) as client:
        messages = [{"role": "user", "content": QUESTION}]
        answer = client.score_outcomes(messages, RESPONSES, [PICTURE], control_tokens="literal")
    return [result.score for result in answer.results if result.score is not None]
