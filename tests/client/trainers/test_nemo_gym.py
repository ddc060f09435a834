"""NeMo-Gym's resources server over HTTP: rewards, refusals, and failures that are a status."""

from collections.abc import Iterator
from threading import Thread
from typing import Any

import httpx2
import pytest

from steelyard.trainers import Options, Scorer
from steelyard.trainers.nemo_gym import ResourcesServer
from tests.client.trainers.asked import CLOSE, CONTROL, LABEL, PICTURE, QUESTION, RESPONSES, scores

SAID = {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}


@pytest.fixture(scope="module")
def gym(url: str) -> Iterator[httpx2.Client]:
    scorer = Scorer(url, options=Options(control_tokens="refuse"))
    with ResourcesServer(scorer) as server, scorer:
        serving = Thread(target=server.serve_forever)
        serving.start()
        with httpx2.Client(base_url=f"http://127.0.0.1:{server.server_address[1]}", timeout=60) as client:
            yield client
        server.shutdown()
        serving.join()


def rollout(response: str, **more: object) -> dict[str, Any]:
    part = {"type": "output_text", "text": response, "annotations": []}
    output = [
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "id": "m", "role": "assistant", "content": [part]},
    ]
    return {"responses_create_params": {"input": [SAID]}, "response": {"output": output}, **more}


def test_verify_returns_the_rollout_with_its_reward(gym: httpx2.Client, url: str) -> None:
    for response, score in zip(RESPONSES, scores(url), strict=True):
        asked = rollout(response, **LABEL)
        answer = gym.post("/verify", json=asked).raise_for_status().json()
        assert answer.pop("reward") == pytest.approx(score, abs=CLOSE)
        assert answer == asked


@pytest.mark.parametrize(
    "params",
    [
        {"input": QUESTION},
        {"input": [SAID]},
        {"input": [{"role": "user", "content": QUESTION, "type": "message"}], "instructions": "Be brief."},
        {"input": [{"role": "developer", "content": "Be brief."}, SAID]},
    ],
)
def test_the_question_is_that_of_the_input(gym: httpx2.Client, params: dict[str, object]) -> None:
    asked = rollout(RESPONSES[0], images=[PICTURE]) | {"responses_create_params": params}
    said = rollout(RESPONSES[0], **LABEL)
    rewards = [gym.post("/verify", json=body).raise_for_status().json()["reward"] for body in (asked, said)]
    assert rewards[0] == pytest.approx(rewards[1], abs=CLOSE)


def test_a_rollout_without_a_score_is_a_503_and_no_reward(gym: httpx2.Client) -> None:
    answer = gym.post("/verify", json=rollout(CONTROL, **LABEL))
    assert (answer.status_code, "reward" in answer.json()) == (503, False)
    assert "refused" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"responses_create_params": {"input": "?"}},
        {"responses_create_params": {"input": "?"}, "response": {"output": []}},
        {"responses_create_params": {"input": [{"type": "function_call_output", "output": "1"}]}, "response": {}},
        rollout("x") | {"responses_create_params": {"input": 7}},
        rollout("x", question=7),
    ],
)
def test_a_body_that_is_no_rollout_is_a_422(gym: httpx2.Client, body: dict[str, object]) -> None:
    assert gym.post("/verify", json=body).status_code == 422


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 9, b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_422(gym: httpx2.Client, content: bytes) -> None:
    assert gym.post("/verify", content=content).status_code == 422


def test_a_collection_is_summed_up(gym: httpx2.Client) -> None:
    rows = [{"reward": 0.25, "_ng_task_index": 0}, {"reward": 0.75, "_ng_task_index": 1}]
    found = gym.post("/aggregate_metrics", json={"verify_responses": rows}).raise_for_status().json()
    assert found["key_metrics"] == {"mean/reward": 0.5, "min/reward": 0.25, "max/reward": 0.75}
    assert gym.post("/aggregate_metrics", json={"verify_responses": []}).json()["agent_metrics"] == {}
    assert gym.post("/aggregate_metrics", json={"verify_responses": [{"reward": None}]}).status_code == 422


def test_other_routes(gym: httpx2.Client) -> None:
    assert gym.post("/seed_session", json={}).json() == {}
    assert gym.post("/score_steps", json={}).status_code == 404
    assert gym.get("/").status_code == 200
