"""What is asked in every drive, and what the server itself says to it."""

from pathlib import Path

from steelyard import Client
from steelyard.schema import StepScores

PICTURE = Path(__file__).parents[3] / "examples" / "circle.png"
QUESTION = "what is the green shape?"
RESPONSES = [
    "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
    "The color is green.\n\nThe picture shows a triangle.\n\nAnswer: triangle",
]
# The demo's models read 4,096 tokens: it cannot be scored.
TOO_LONG = "word " * 9000
TOLERANCE = 1e-4


def steps() -> list[StepScores]:
    """Of the responses, by the model of steps."""
    with Client() as client:
        answer = client.score_steps(QUESTION, [PICTURE], RESPONSES, control_tokens="literal")
    assert all(result.status == "ok" for result in answer.results), answer.results
    return answer.results


def scores() -> list[float]:
    """Of the responses, by the model of steps."""
    return [result.score for result in steps() if result.score is not None]


def outcomes() -> list[float]:
    """Of the responses, by the model of outcomes."""
    with Client() as client:
        asked = [{"role": "user", "content": QUESTION}]
        answer = client.score_outcomes(asked, RESPONSES, [PICTURE], control_tokens="literal")
    return [result.score for result in answer.results if result.score is not None]


def check_close(found: list[float], wanted: list[float], what: str) -> None:
    """Raises AssertionError; what else was in a batch may move the last bits."""
    assert len(found) == len(wanted), (what, found, wanted)
    assert all(abs(one - other) <= TOLERANCE * (1 + abs(other)) for one, other in zip(found, wanted, strict=True)), (
        what,
        found,
        wanted,
    )
    print(f"  ok: {what}")
