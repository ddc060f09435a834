"""`/pooling` and `/classify` as vLLM's clients call them, against the real server of both demo models."""

import base64
from typing import Any

import httpx2
import pytest

from tests.service.compat.asked import (
    ANSWERS,
    ASKED,
    MODELS,
    PICTURE,
    QUESTION,
    answered,
    bounded,
    outcomes,
    rewards,
    sigmoid,
    steps,
)
from tests.service.running import Running, refused, until

CHAT = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERS[0]}]
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"


def test_pooling_gives_a_row_a_step_as_score_steps_does(api: httpx2.Client) -> None:
    expected = steps(api).results[0]
    answer = answered(api.post("/pooling", json={"model": "visualprm", "messages": CHAT}))
    (item,) = answer["data"]
    assert item == {"index": 0, "object": "pooling", "data": [[score] for score in expected.step_scores or []]}
    assert (answer["object"], answer["model"], answer["activation"]) == ("list", "visualprm", "sigmoid")
    assert answer["id"].startswith("pool-")
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(QUESTION) // 4


def test_pooling_without_activation_gives_log_odds(api: httpx2.Client) -> None:
    answer = answered(api.post("/pooling", json={"messages": CHAT, "use_activation": False}))
    assert answer["data"][0]["data"] == [[logit] for logit in steps(api).results[0].step_logits or []]
    assert answer["activation"] == "none"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("active", [None, True, False])
def test_one_number_an_answer_is_the_reward(api: httpx2.Client, model: str, active: bool | None) -> None:
    raw = rewards(api, model)[:1]
    expected = raw if active is False else bounded(model, raw)
    body = {"model": model, "messages": CHAT, "use_activation": active}
    pooled = answered(api.post("/pooling", json=body | {"task": "classify"}))
    classified = answered(api.post("/classify", json=body))
    assert pooled["data"][0]["data"] == pytest.approx(expected, abs=0)
    assert classified["data"] == [{"index": 0, "label": "LABEL_0", "probs": expected, "num_classes": 1}]
    activation = "none" if active is False and model == "ixc_reward" else "sigmoid"
    assert pooled["activation"] == classified["activation"] == activation


def test_verls_reward_model_reads_the_outcome_of_a_templated_chat(api: httpx2.Client) -> None:
    body = {"model": "ixc_reward", "input": TEMPLATE.format(QUESTION, ANSWERS[0]), "use_activation": False}
    assert (
        answered(api.post("/classify", json=body))["data"][-1]["probs"][-1]
        == rewards(api, "ixc_reward", ANSWERS[:1], images=[])[0]
    )


@pytest.mark.parametrize("model", MODELS)
def test_texts_come_back_in_their_order_and_those_of_one_question_share_a_group(
    server: Running, api: httpx2.Client, model: str
) -> None:
    asked = [(QUESTION, ANSWERS[0]), ("what color is it?", "Answer: red"), (QUESTION, ANSWERS[1])]
    before = server.metric(f"steelyard_groups_total{{model={model},priority=online}}")
    body = {"model": model, "input": [TEMPLATE.format(*pair) for pair in asked], "priority": -1}
    found = [item["probs"][0] for item in answered(api.post("/classify", json=body))["data"]]
    assert server.metric(f"steelyard_groups_total{{model={model},priority=online}}") == before + 2
    first, last = bounded(model, rewards(api, model, ANSWERS[:2], images=[]))
    assert found[0] == pytest.approx(first, rel=1e-5)
    assert found[2] == pytest.approx(last, rel=1e-5)


def test_visualprms_own_dialogue_of_steps_is_the_same_group(api: httpx2.Client) -> None:
    first, *later = ANSWERS[0].split("\n\n")
    texts = [f"### Question:\n{QUESTION}\n\n### Solution Process:\n{first}", *later]
    turns: list[dict[str, Any]] = []
    for text in texts:
        turns += [{"role": "user", "content": text}, {"role": "assistant", "content": "+"}]
    turns[0]["content"] = [ASKED[0], {"type": "text", "text": texts[0]}]
    system = [{"role": "system", "content": "whatever the client has"}]
    answer = answered(api.post("/pooling", json={"messages": system + turns}))
    assert answer["data"][0]["data"] == [[score] for score in steps(api).results[0].step_scores or []]


def test_a_picture_between_texts_stands_where_its_part_stands(api: httpx2.Client) -> None:
    parts = [{"type": "text", "text": "Look: "}, ASKED[0], {"type": "text", "text": f"\n{QUESTION}"}]
    turns = [{"role": "user", "content": parts}, CHAT[1]]
    found = answered(api.post("/pooling", json={"model": "visualprm", "messages": turns}))["data"][0]["data"]
    expected = steps(api, ANSWERS[:1], question=f"Look: <image>\n{QUESTION}").results[0].step_scores
    assert found == [[score] for score in expected or []]
    assert found != [[score] for score in steps(api).results[0].step_scores or []]
    whole = answered(api.post("/classify", json={"model": "ixc_reward", "messages": turns, "use_activation": False}))
    inside = outcomes(api, ANSWERS[:1], messages=turns[:1], images=[]).results[0].score
    assert whole["data"][0]["probs"] == [inside]


def test_vllms_documented_bodies_are_answered(api: httpx2.Client) -> None:
    text = answered(api.post("/pooling", json={"model": "visualprm", "input": "vLLM is great!"}))
    assert [len(item["data"]) for item in text["data"]] == [1]
    said = [{"role": "user", "content": [{"type": "text", "text": "vLLM is great!"}]}]
    chat = answered(api.post("/pooling", json={"model": "ixc_reward", "messages": said, "encoding_format": "float"}))
    alone = api.post("/score_outcomes", json={"conversations": [{"messages": said}]}).json()["results"][0]["score"]
    assert chat["data"][0]["data"] == [pytest.approx(sigmoid(alone), abs=0)]
    inputs = ["Loved the new café, coffee was great.", "This update broke everything. Frustrating."]
    classes = answered(api.post("/classify", json={"model": "ixc_reward", "input": inputs}))
    assert [item["index"] for item in classes["data"]] == [0, 1]
    assert {item["num_classes"] for item in classes["data"]} == {1}


def test_unknown_fields_are_ignored_and_named(api: httpx2.Client) -> None:
    body = {"messages": CHAT, "user": "me", "naïve\nfield": 1, "request_id": "r-7", "truncate_prompt_tokens": -1}
    response = api.post("/pooling", json=body)
    assert answered(response)["id"] == "pool-r-7"
    assert response.headers["x-ignored-fields"] == '["user", "na\\u00efve\\nfield"]'


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"input": [1, 2, 3]}, "token ids"),
        ({"input": [[1, 2], [3]]}, "token ids"),
        ({"input": []}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": "a", "messages": CHAT}, "either input or messages"),
        ({}, "either input or messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "7"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "text or image_url",
        ),
        ({"messages": CHAT[:1]}, "last turn must be the assistant's"),
        ({"messages": [*CHAT, *CHAT]}, "all later turns are text"),
        ({"messages": [CHAT[0], {"role": "assistant", "content": ASKED}]}, "all later turns are text"),
        ({"messages": [*CHAT, {"role": "user", "content": "?"}, CHAT[1]]}, "one question and one answer"),
        ({"messages": [CHAT[0], *CHAT]}, "turn about"),
        ({"input": "<|turn|>me: hi"}, "template"),
        ({"input": TEMPLATE.format("<|vision_start|><|image_pad|><|vision_end|>?", "a")}, "send messages"),
        ({"input": "a", "task": "embed"}, "task"),
        ({"input": "a", "encoding_format": "base64"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 512}, "truncate_prompt_tokens"),
        ({"input": "a", "chat_template": "{{ x }}"}, "chat_template"),
        ({"input": "a", "mm_processor_kwargs": {"max_dynamic_patch": 4}}, "max_tiles"),
        ({"input": "a", "priority": "high"}, "priority"),
        ({"input": ["a"] * 1025}, "the limit is 1024"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "image_url"),
    ],
)
def test_what_cannot_be_answered_as_it_was_asked_is_422(api: httpx2.Client, fields: dict[str, Any], says: str) -> None:
    assert says in refused(api.post("/pooling", json={"model": "visualprm"} | fields), 422, "invalid_request")


def test_steps_are_not_asked_of_an_outcome_model(api: httpx2.Client) -> None:
    for fields in ({"task": "token_classify"}, {"aggregate": "min"}):
        refused(api.post("/pooling", json={"model": "ixc_reward", "messages": CHAT} | fields), 422, "invalid_request")
    refused(api.post("/classify", json={"model": "gpt", "messages": CHAT}), 404, "unknown_model")


@pytest.mark.parametrize("aggregate", ["min", "last", "sum", "product"])
def test_steps_are_aggregated_as_asked(api: httpx2.Client, aggregate: str) -> None:
    body = {"model": "visualprm", "messages": CHAT, "aggregate": aggregate}
    found = answered(api.post("/classify", json=body))["data"][0]["probs"]
    assert found == rewards(api, "visualprm", aggregate=aggregate)[:1]


def test_pictures_that_cannot_be_had_are_the_same_errors_as_elsewhere(api: httpx2.Client) -> None:
    def shown(url: str) -> httpx2.Response:
        part = {"type": "image_url", "image_url": {"url": url}}
        return api.post("/pooling", json={"messages": [{"role": "user", "content": [part]}, CHAT[1]]})

    refused(shown("sha256:" + "0" * 64), 404, "unknown_image")
    refused(shown("https://example.com/x.png"), 422, "invalid_request")
    refused(shown("data:text/plain;base64,aGVsbG8="), 415, "unsupported_image")
    broken = base64.b64encode(PICTURE.read_bytes()[:200]).decode()
    message = refused(shown(broken), 422, "unscorable")
    assert "messages.0: bad_image" in message


def test_one_item_that_never_gets_a_score_makes_the_call_a_422_that_names_it(api: httpx2.Client) -> None:
    texts = ["fine", "word " * 20_000, "fine too"]
    message = refused(api.post("/classify", json={"model": "ixc_reward", "input": texts}), 422, "unscorable")
    assert "input.1: too_long" in message
    assert "input.0" not in message


def test_items_that_were_not_reached_in_time_make_the_call_a_503(server: Running, api: httpx2.Client) -> None:
    body = {"messages": CHAT, "deadline_ms": 1}
    response = server.come_to_late(lambda: api.post("/pooling", json=body))
    assert "messages.0: expired" in refused(response, 503, "not_scored")
    assert response.headers["retry-after"] == "2"


def test_a_caller_who_hangs_up_leaves_nothing_behind(server: Running) -> None:
    with server.stopped_engine(), server.client() as hasty:
        with pytest.raises(httpx2.ReadTimeout):
            hasty.post("/classify", json={"model": "ixc_reward", "input": ["a", "b"]}, timeout=0.5)
        until(lambda: server.metric("steelyard_waiting_groups") == 0, "no waiting groups")
    gone = "steelyard_requests_total{route=/classify,status=499}"
    until(lambda: server.metric(gone) == 1, "a request whose caller has gone")
