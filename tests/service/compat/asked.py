"""A picture, a question, answers, and the rewards that this server's own routes give them."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from steelyard.schema import ScoreOutcomesResponse, ScoreStepsResponse
from tests.service.running import ROOT

PICTURE = ROOT / "examples" / "circle.png"
PICTURE_ID = "sha256:" + hashlib.sha256(PICTURE.read_bytes()).hexdigest()
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
QUESTION = "what is the green shape?"
ANSWERS = [
    "The color is green.\n\nThe picture shows a triangle.\n\nAnswer: triangle",
    "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
    "Answer: circle",
]
MODELS = ("visualprm", "ixc_reward")
# As OpenAI's clients write a question with its picture.
ASKED: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": DATA_URL}},
    {"type": "text", "text": QUESTION},
]


def steps(api: httpx2.Client, answers: Sequence[str] = ANSWERS, **fields: Any) -> ScoreStepsResponse:  # noqa: ANN401
    """By `/score_steps`."""
    body = {"question": QUESTION, "images": [PICTURE_ID], "candidates": [*answers]} | fields
    return ScoreStepsResponse.model_validate_json(api.post("/score_steps", json=body).raise_for_status().content)


def outcomes(api: httpx2.Client, answers: Sequence[str] = ANSWERS, **fields: Any) -> ScoreOutcomesResponse:  # noqa: ANN401
    """By `/score_outcomes`."""
    turns = [{"role": "user", "content": QUESTION}]
    body = {"messages": turns, "images": [PICTURE_ID], "candidates": [*answers]} | fields
    return ScoreOutcomesResponse.model_validate_json(api.post("/score_outcomes", json=body).raise_for_status().content)


def rewards(api: httpx2.Client, model: str, answers: Sequence[str] = ANSWERS, **fields: Any) -> list[float]:  # noqa: ANN401
    """What this server's own route says of the answers."""
    answer = steps(api, answers, **fields) if model == "visualprm" else outcomes(api, answers, **fields)
    found = [result.score for result in answer.results if result.score is not None]
    assert len(found) == len(answers)
    return found


def sigmoid(x: float) -> float:
    """To the last bit as a server has it that is right at both ends."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def bounded(model: str, values: Sequence[float]) -> list[float]:
    """As the compatible routes have them between 0 and 1."""
    return [*values] if model == "visualprm" else [sigmoid(value) for value in values]


def answered(response: httpx2.Response) -> Mapping[str, Any]:
    """The body of a success."""
    assert response.status_code == 200, response.text[:500]
    body: Mapping[str, Any] = response.json()
    return body
