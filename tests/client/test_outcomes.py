"""Whole answers through both clients, against the real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steelyard import AsyncClient, Client
from steelyard.schema import ScoreOutcomesResponse
from tests.service.running import Running, shared

RED = Image.new("RGB", (96, 64), "red")
STEPS = np.arange(60 * 40 * 3, dtype=np.uint8).reshape(40, 60, 3)
ASK = [{"role": "user", "content": "Which shape is red?"}]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def scores(answer: ScoreOutcomesResponse) -> list[float]:
    found = [result.score for result in answer.results if result.score is not None]
    assert len(found) == len(answer.results)
    return found


def test_pictures_in_parts_score_as_pictures_at_markers(client: Client, tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    parts = [
        {"type": "image_url", "image_url": {"url": tmp_path / "red.png"}},
        {"type": "text", "text": " or "},
        {"type": "image_url", "image_url": {"url": STEPS}},
    ]
    in_parts = client.score_outcomes([{"role": "user", "content": parts}], ["the first", "the second"])
    marked = [{"role": "user", "content": "<ImageHere> or <ImageHere>"}]
    at_markers = client.score_outcomes(marked, ["the first", "the second"], [RED, STEPS])
    assert scores(in_parts) == pytest.approx(scores(at_markers), rel=1e-5, abs=1e-5)


def test_conversations_score_as_candidates(client: Client) -> None:
    candidates = ["The circle.", "The square."]
    together = client.score_outcomes(ASK, candidates, [RED])
    talks = [{"messages": [*ASK, {"role": "assistant", "content": text}], "images": [RED]} for text in candidates]
    assert scores(client.score_conversations(talks)) == pytest.approx(scores(together), rel=1e-5, abs=1e-5)


def test_frames_of_a_video_are_one_picture(client: Client) -> None:
    video = {"type": "video_frames", "frames": [RED, STEPS, RED]}
    answer = client.score_outcomes([{"role": "user", "content": [video]}], ["A change of colour."])
    assert len(scores(answer)) == 1
    assert answer.usage.prompt_tokens > 20


async def test_a_task_gets_what_a_thread_gets(server: Running, client: Client) -> None:
    async with AsyncClient(server.url) as other:
        answer = await other.score_outcomes(ASK, ["The circle."], [RED])
    assert scores(answer) == pytest.approx(scores(client.score_outcomes(ASK, ["The circle."], [RED])), abs=1e-5)
