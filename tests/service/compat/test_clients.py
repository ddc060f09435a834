"""The real clients of OpenAI and Cohere, and who is let in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cohere
import httpx2
import openai
import pytest

from tests.service.compat.asked import ANSWERS, ASKED, MODELS, QUESTION, bounded, rewards
from tests.service.running import ROOT, Running, refused, running, until

KEY = "a-key"
POSTS: dict[str, dict[str, Any]] = {
    "/get_reward": {"query": []},
    "/pooling": {"input": "a"},
    "/classify": {"input": "a"},
    "/score": {"text_1": "a", "text_2": "b"},
    "/v1/score": {"text_1": "a", "text_2": "b"},
    "/rerank": {"query": "a", "documents": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
    "/slime": {"prompt": "a", "response": "b"},
}


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """It knows one key and has room for two groups."""
    with running("--api-key", KEY, "--max-waiting", "2", "--online-share", "0") as server:
        yield server


@pytest.fixture(scope="module")
def as_openai(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_openai_lists_the_models(as_openai: openai.OpenAI) -> None:
    listed = [*as_openai.models.list()]
    assert {(model.id, model.object, model.owned_by) for model in listed} == {
        (name, "model", "steelyard") for name in MODELS
    }
    assert all(model.created > 0 for model in listed)
    assert as_openai.models.retrieve("visualprm").id == "visualprm"
    with pytest.raises(openai.NotFoundError, match="no model named 'gpt'"):
        as_openai.models.retrieve("gpt")


@pytest.mark.parametrize("model", MODELS)
def test_openai_posts_a_question_with_its_picture(as_openai: openai.OpenAI, api: httpx2.Client, model: str) -> None:
    body = {"model": model, "query": {"content": ASKED}, "documents": ANSWERS}
    answer: Any = as_openai.post("/rerank", cast_to=object, body=body)
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert found == dict(enumerate(bounded(model, rewards(api, model))))


def test_openai_reads_our_errors(server: Running, as_openai: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        as_openai.post("/rerank", cast_to=object, body={"model": "visualprm", "query": "q", "documents": []})
    assert (caught.value.code, caught.value.type) == ("invalid_request", "invalid_request_error")
    late = {"text_1": "a", "text_2": "b", "model": "visualprm", "deadline_ms": 1}
    with pytest.raises(openai.InternalServerError) as failed:
        server.come_to_late(lambda: as_openai.post("/score", cast_to=object, body=late))
    assert (failed.value.status_code, failed.value.code) == (503, "not_scored")


@pytest.mark.parametrize("model", MODELS)
def test_cohere_reranks(server: Running, api: httpx2.Client, model: str) -> None:
    with httpx_client() as http:
        client = cohere.ClientV2(api_key=KEY, base_url=server.url, httpx_client=http)
        answer = client.rerank(model=model, query=QUESTION, documents=ANSWERS, top_n=2, max_tokens_per_doc=4096)
        expected = bounded(model, rewards(api, model, images=[]))
        order = sorted(range(3), key=lambda index: -expected[index])
        assert [(r.index, r.relevance_score) for r in answer.results] == [(i, expected[i]) for i in order[:2]]
        # The SDK's own way to say more than its signature does.
        options = {"additional_body_parameters": {"query": {"content": ASKED}}}
        shown = client.rerank(model=model, query=QUESTION, documents=ANSWERS, request_options=options)  # type: ignore[arg-type]
        assert {r.index: r.relevance_score for r in shown.results} == dict(
            enumerate(bounded(model, rewards(api, model)))
        )
        with pytest.raises(cohere.NotFoundError, match="no model named"):
            client.rerank(model="rerank-v3.5", query=QUESTION, documents=ANSWERS)


def httpx_client() -> Any:  # noqa: ANN401
    """Cohere's client leaves its own connections open."""
    import httpx

    return httpx.Client(timeout=60)


def test_the_example_runs(server: Running) -> None:
    environment = os.environ | {"STEELYARD_URL": server.url, "PYTHONPATH": str(ROOT / "client")}
    script = ROOT / "examples" / "compatible_clients.py"
    ended = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "served: visualprm, ixc_reward"
    assert [line.split(":")[0] for line in lines[1:]] == ["pooling", "rerank", "cohere", "get_reward"]
    assert all("best 0" in line for line in lines[2:4])


@pytest.mark.parametrize("path", POSTS)
def test_no_route_is_open_without_a_key(strict: Running, path: str) -> None:
    refused(httpx2.post(strict.url + path, json=POSTS[path]), 401, "invalid_key")
    refused(httpx2.get(strict.url + "/v1/models"), 401, "invalid_key")


def test_a_key_is_let_in(strict: Running) -> None:
    with openai.OpenAI(base_url=strict.url + "/v1", api_key=KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [*MODELS]
    stranger = openai.OpenAI(base_url=strict.url + "/v1", api_key="another", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_call_without_room_for_all_its_groups_is_refused_whole(strict: Running) -> None:
    with strict.client(headers={"Authorization": f"Bearer {KEY}"}) as member:
        asked = {"model": "ixc_reward", "text_1": ["a", "b", "c"], "text_2": ["x", "y", "z"]}
        response = member.post("/score", json=asked)
        refused(response, 429, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        until(lambda: strict.metric("steelyard_waiting_groups") == 0, "nothing left behind")
        fewer = {"model": "ixc_reward", "text_1": ["a", "b"], "text_2": ["x", "y"]}
        assert member.post("/score", json=fewer).status_code == 200
