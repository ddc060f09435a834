"""`/score` and `/rerank` as vLLM's, Cohere's and Jina's clients call them, against the real server."""

from typing import Any

import httpx2
import pytest

from tests.service.compat.asked import (
    ANSWERS,
    ASKED,
    DATA_URL,
    MODELS,
    PICTURE_ID,
    QUESTION,
    answered,
    bounded,
    rewards,
)
from tests.service.running import Running, refused

QUERY = {"content": ASKED}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_ordered_by_the_rewards_of_the_same_group(api: httpx2.Client, model: str, path: str) -> None:
    raw = rewards(api, model)
    answer = answered(api.post(path, json={"model": model, "query": QUERY, "documents": ANSWERS}))
    order = sorted(range(3), key=lambda index: -raw[index])
    assert [result["index"] for result in answer["results"]] == order
    assert [result["relevance_score"] for result in answer["results"]] == [bounded(model, raw)[i] for i in order]
    assert [result["document"]["text"] for result in answer["results"]] == [ANSWERS[i] for i in order]
    assert (answer["model"], answer["activation"]) == (model, "sigmoid")
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_without_activation_an_outcome_is_the_models_own_number(api: httpx2.Client, model: str) -> None:
    body = {"model": model, "query": QUERY, "documents": ANSWERS, "use_activation": False}
    answer = answered(api.post("/rerank", json=body))
    raw = rewards(api, model)
    assert {result["index"]: result["relevance_score"] for result in answer["results"]} == dict(enumerate(raw))
    assert answer["activation"] == ("none" if model == "ixc_reward" else "sigmoid")
    if model == "ixc_reward":
        assert not all(0 <= score <= 1 for score in raw)


def test_documents_of_a_call_are_one_group(server: Running, api: httpx2.Client) -> None:
    groups = "steelyard_groups_total{model=visualprm,priority=batch}"
    before, tiles = server.metric(groups), server.metric("steelyard_tiles_total{model=visualprm}")
    body = {"model": "visualprm", "query": QUERY, "documents": [f"It is {i}." for i in range(32)], "priority": 3}
    answer = answered(api.post("/rerank", json=body))
    assert len(answer["results"]) == 32
    assert server.metric(groups) == before + 1
    assert server.metric("steelyard_tiles_total{model=visualprm}") <= tiles + 1
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > answer["usage"]["prompt_tokens"] / 2


def test_the_best_are_given_and_documents_left_out_when_asked(api: httpx2.Client) -> None:
    body = {"model": "ixc_reward", "query": QUERY, "documents": ANSWERS, "return_documents": False}
    whole = answered(api.post("/v2/rerank", json=body))["results"]
    assert all(set(result) == {"index", "relevance_score"} for result in whole)
    assert answered(api.post("/v2/rerank", json=body | {"top_n": 2}))["results"] == whole[:2]
    assert answered(api.post("/v2/rerank", json=body | {"top_n": 0}))["results"] == whole
    assert answered(api.post("/v2/rerank", json=body | {"top_n": 99}))["results"] == whole


def test_every_form_of_a_document_is_the_same_answer(api: httpx2.Client) -> None:
    text = ANSWERS[1]
    parts = [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]
    documents: list[Any] = [text, {"text": text}, {"content": parts}]
    for query in (QUERY, {"image": DATA_URL, "text": QUESTION}, {"image": {"url": PICTURE_ID}, "text": QUESTION}):
        answer = answered(api.post("/v1/rerank", json={"model": "visualprm", "query": query, "documents": documents}))
        scores = {result["relevance_score"] for result in answer["results"]}
        assert [result["index"] for result in answer["results"]] == [0, 1, 2], "ties keep the caller's order"
        assert scores == {rewards(api, "visualprm", [text])[0]}


def test_jinas_pictures_are_documents_of_an_outcome_model_alone(api: httpx2.Client) -> None:
    body = {"query": "a green circle", "documents": [{"image": DATA_URL}, {"text": "a red square"}]}
    answer = answered(api.post("/v1/rerank", json=body | {"model": "ixc_reward", "use_activation": False}))
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    turns = [{"role": "user", "content": "a green circle"}]
    shown = {"role": "assistant", "content": [ASKED[0]]}
    said = {"role": "assistant", "content": "a red square"}
    own = {"conversations": [{"messages": [*turns, shown]}, {"messages": [*turns, said]}]}
    assert found == {r["index"]: r["score"] for r in api.post("/score_outcomes", json=own).json()["results"]}
    assert "all later turns are text" in refused(
        api.post("/v1/rerank", json=body | {"model": "visualprm"}), 422, "invalid_request"
    )


@pytest.mark.parametrize(
    "names", [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_a_question_is_scored_against_each_answer(api: httpx2.Client, names: tuple[str, str], path: str) -> None:
    answer = answered(api.post(path, json={"model": "ixc_reward", names[0]: QUERY, names[1]: ANSWERS}))
    expected = bounded("ixc_reward", rewards(api, "ixc_reward"))
    assert answer["data"] == [{"index": i, "object": "score", "score": score} for i, score in enumerate(expected)]
    assert answer["object"] == "list"


@pytest.mark.parametrize("model", MODELS)
def test_questions_and_answers_are_zipped(api: httpx2.Client, model: str) -> None:
    body = {"model": model, "text_1": [QUESTION, "is it red?", QUESTION], "text_2": ANSWERS}
    found = [item["score"] for item in answered(api.post("/score", json=body))["data"]]
    expected = bounded(model, rewards(api, model, [ANSWERS[0], ANSWERS[2]], images=[]))
    assert [found[0], found[2]] == pytest.approx(expected, rel=1e-5)
    alone = answered(api.post("/score", json={"model": model, "text_1": "is it red?", "text_2": ANSWERS[1]}))
    assert found[1] == pytest.approx(alone["data"][0]["score"], rel=1e-5)


def test_vllms_documented_bodies_are_answered(api: httpx2.Client) -> None:
    france = ["The capital of Brazil is Brasilia.", "The capital of France is Paris."]
    zipped = {
        "encoding_format": "float",
        "text_1": ["What is the capital of Brazil?", "And of France?"],
        "text_2": france,
    }
    assert [item["index"] for item in answered(api.post("/score", json={"model": "visualprm"} | zipped))["data"]] == [
        0,
        1,
    ]
    ranked = {"query": "What is the capital of France?", "documents": [*france, "Horses and cows are both animals"]}
    results = answered(api.post("/rerank", json={"model": "ixc_reward"} | ranked))["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2]
    assert [r["relevance_score"] for r in results] == sorted((r["relevance_score"] for r in results), reverse=True)


def test_a_limit_that_nothing_reaches_is_taken_and_one_that_would_cut_is_not(api: httpx2.Client) -> None:
    body = {"model": "visualprm", "query": QUERY, "documents": ANSWERS}
    answered(api.post("/v2/rerank", json=body | {"max_tokens_per_doc": 4096, "truncate_prompt_tokens": 100_000}))
    message = refused(api.post("/v2/rerank", json=body | {"max_tokens_per_doc": 20}), 422, "invalid_request")
    assert "documents.0" in message


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("/rerank", {"documents": []}, "documents"),
        ("/rerank", {"documents": [7]}, "documents.0"),
        ("/rerank", {"documents": [{"title": "x"}]}, "documents.0"),
        ("/rerank", {"query": {}}, "query"),
        ("/rerank", {"top_n": -1}, "top_n"),
        ("/rerank", {"rank_fields": ["text"]}, "rank_fields"),
        ("/rerank", {"model": None}, "visualprm, ixc_reward"),
        ("/rerank", {"documents": ["a"] * 1025}, "the limit is 1024"),
        ("/score", {}, "one pair"),
        ("/score", {"text_1": "a", "queries": "a", "text_2": "b"}, "one pair"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "2 questions and 3 answers"),
        ("/score", {"text_1": ["a", "b"], "text_2": "c"}, "2 questions and 1 answers"),
    ],
)
def test_what_is_not_a_question_with_answers_is_422(
    api: httpx2.Client, path: str, fields: dict[str, Any], says: str
) -> None:
    body = {"model": "visualprm"} | ({"query": "q", "documents": ["a"]} if path == "/rerank" else {}) | fields
    assert says in refused(api.post(path, json=body), 422, "invalid_request")


def test_a_document_that_never_gets_a_score_is_named_and_no_other_is_answered(api: httpx2.Client) -> None:
    body = {"model": "ixc_reward", "query": "q", "documents": ["fine", "an <ImageHere> of mine"]}
    message = refused(api.post("/rerank", json=body), 422, "unscorable")
    assert "documents.1: refused" in message
    assert "documents.0" not in message


def test_malformed_bodies_are_422(api: httpx2.Client) -> None:
    for content in (b"", b"[]", b"{", b'{"query": "\xff"}', b"null"):
        refused(api.post("/rerank", content=content), 422, "invalid_request")
    refused(api.get("/rerank"), 405, "wrong_method")
