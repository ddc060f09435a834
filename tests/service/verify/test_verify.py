"""`POST /verify` against the real server process: what is asked, what is refused, what comes back."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from steelyard import AsyncClient, Client, errors
from steelyard.rewards import SHIPPED, Specification
from steelyard.verify_schema import VerifiedItem, VerifyItem, VerifyResponse
from tests.service.running import Running, refused, running, starting

TRUTH = "<answer>[{'Position': [100, 100, 300, 300], 'Confidence': 1}]</answer>"
GOOD = "<think>a cat</think><answer>[{'Position': [100, 100, 300, 300], 'Confidence': 0.75}]</answer>"
REWARD = SHIPPED["detection"].evaluate(GOOD, TRUTH).total
HALF = "<think>a cat</think><answer>[{'Position': [100, 100, 300, 250], 'Confidence': 0.5}]</answer>"


def post(client: httpx2.Client, *items: Any, **fields: Any) -> httpx2.Response:  # noqa: ANN401
    return client.post("/verify", json={"specification": "detection", "items": items} | fields)


def verified(response: httpx2.Response) -> VerifyResponse:
    assert response.status_code == 200, response.text[:500]
    return VerifyResponse.model_validate_json(response.content)


def item(response: str, truth: str | None = TRUTH, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"response": response, "truth": truth, **more}


def test_a_batch_gets_the_rewards_that_the_client_computes(api: httpx2.Client) -> None:
    items = [item(GOOD), item(HALF), item("nonsense"), item(GOOD, "no boxes", id="mine")]
    answer = verified(post(api, *items, id="a batch"))
    assert (answer.id, answer.object) == ("a batch", "verification")
    here = SHIPPED["detection"]
    for result, sent in zip(answer.results[:3], items, strict=False):
        expected = here.evaluate(sent["response"], sent["truth"])
        assert (result.status, result.reward, result.parts) == ("ok", expected.total, expected.parts)
    assert answer.results[3] == VerifiedItem(
        index=3, id="mine", status="refused", retryable=False, detail=answer.results[3].detail
    )
    assert answer.results[3].detail
    assert answer.specification.name == "detection"
    assert answer.specification.math_verify is None
    assert 0 <= answer.timings_ms.queue <= answer.timings_ms.total


def test_a_specification_of_ones_own_is_computed_and_named_by_its_digest(api: httpx2.Client) -> None:
    asked = {"terms": "0.9 * iou + 0.1 * format", "clip": {"high": 0.5}}
    answer = verified(post(api, item(GOOD), specification=asked))
    assert answer.results[0].reward == 0.5
    assert answer.results[0].parts == {"iou": 1.0, "format": 1.0}
    spelt_out = Specification.model_validate(asked).model_dump(mode="json")
    again = verified(post(api, item(GOOD), specification=spelt_out))
    assert again.specification == answer.specification
    assert answer.specification.name is None


def test_a_served_models_score_is_blended_in(api: httpx2.Client) -> None:
    asked = {"terms": "0.5 * format + 2 * served(visualprm)"}
    answer = verified(post(api, item(GOOD, None, served={"visualprm": 0.25}), specification=asked))
    assert answer.results[0].reward == 1.0
    message = refused(post(api, item(GOOD), item(GOOD), specification=asked), 422, "invalid_request")
    assert message.startswith("items.0.served.visualprm: ")


def test_mathematics_is_compared(api: httpx2.Client) -> None:
    items = [item(f"<think>x</think><answer>${answer}$</answer>", r"$\frac{1}{2}$") for answer in ("0.5", "0.6")]
    answer = verified(post(api, *items, specification="maths"))
    assert [result.reward for result in answer.results] == [2.0, 1.0]
    assert answer.specification.math_verify


def test_upstreams_nan_is_a_failure_and_not_a_number(api: httpx2.Client) -> None:
    nan = "<answer>[{'Position': [100, 100, 300, 300], 'Confidence': NaN}]</answer>"
    asked = {"terms": "confidence", "mode": "upstream", "maths_first": False}
    result = verified(post(api, item(nan), specification=asked)).results[0]
    assert (result.status, result.reward) == ("failed", None)


def test_texts_that_are_hostile_are_texts(api: httpx2.Client) -> None:
    texts = ["", "\0", "<answer>" * 50_000, "[" * 100_000, "9" * 100_000, "<answer>9**9**9</answer>", "\u2028🦑" * 1000]
    for name in ("detection", "classification", "grounding", "maths", "multiple_choice", "detection-upstream"):
        for truth in ("7", TRUTH):
            answer = verified(post(api, *(item(text, truth) for text in texts), specification=name))
            assert all((result.status == "ok") == (result.reward is not None) for result in answer.results)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"specification": "detektion"}, "specification: 'detektion' is none"),
        ({"specification": 7}, "specification"),
        ({"specification": {"terms": "iou + 3 * fromat"}}, r"specification\.terms: character 11: 'fromat' is no term"),
        (
            {"specification": {"terms": [{"kind": "iou"}, {"kind": "format", "weight": "x"}]}},
            r"specification\.terms\.1",
        ),
        ({"specification": {"terms": "iou", "clipp": 1}}, r"specification\.clipp: unknown field"),
        ({"specification": {"terms": "iou", "gates": [{"term": "format", "at_least": 1}]}}, r"specification\.gates: 0"),
        ({"specification": {"terms": "iou" + " + iou" * 20_000}}, "specification: .* bytes, the limit is 65536"),
        ({"items": []}, "items"),
        ({"items": [item(GOOD)] * 1025}, "items: 1025, the limit is 1024"),
        ({"items": [item(GOOD), {"response": 7, "truth": "x"}]}, r"items\.1\.response"),
        ({"items": [item(GOOD), {"truth": "x"}]}, r"items\.1\.response"),
        ({"items": [item(GOOD), item(GOOD, None)]}, r"items\.1\.truth: the specification reads the solution"),
        ({"items": [item(GOOD, extra=1)]}, r"items\.0\.extra: unknown field"),
        ({"items": [item(GOOD, served={"a": "x"})]}, r"items\.0\.served\.a"),
        ({"time_limit_ms": 0}, "time_limit_ms"),
        ({"time_limit_ms": 1001}, "time_limit_ms: 1001, the limit is 1000"),
        ({"id": ""}, "id"),
        ({"temperature": 1}, "temperature: unknown field"),
    ],
)
def test_what_cannot_be_weighed_is_refused_where_it_stands(
    api: httpx2.Client, fields: dict[str, Any], says: str
) -> None:
    message = refused(post(api, **({"items": [item(GOOD)]} | fields)), 422, "invalid_request")
    assert re.search(says, message), message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b'{"specification": "detection", "items": [{"response": "\\ud800", "truth": ""}]}',
        b'{"specification": "detection", "items": [{"response": "\xff", "truth": ""}]}',
        b'{"specification": {"terms": [{"kind": "iou", "weight": 1e999}]}, "items": [{"response": "", "truth": ""}]}',
        b'{"specification": "detection", "items": [{"response": "", "served": {"a": NaN}}]}',
        b'{"specification": ' + b"[" * 100_000 + b"]" * 100_000 + b', "items": [{"response": "", "truth": ""}]}',
        b'{"specification": "detection", "items": [' + b"{}," * 300_000 + b"{}]}",
        b'{"specification": "detection", "items": ' + b"[" * 500_000 + b"}",
    ],
)
def test_a_body_that_is_none_is_a_422(api: httpx2.Client, body: bytes) -> None:
    assert len(refused(api.post("/verify", content=body), 422, "invalid_request")) < 4000


def test_concurrent_callers_get_their_own_results(server: Running) -> None:
    def call(caller: int) -> list[str | None]:
        items = [item(GOOD if place % 2 else "", id=f"{caller}-{place}") for place in range(200)]
        with server.client() as client:
            answer = verified(post(client, *items))
        assert [result.reward for result in answer.results] == [
            0.0 if place % 2 == 0 else REWARD for place in range(200)
        ]
        return [result.id for result in answer.results]

    with ThreadPoolExecutor(8) as pool:
        for caller, ids in enumerate(pool.map(call, range(16))):
            assert ids == [f"{caller}-{place}" for place in range(200)]


def test_the_request_is_counted_and_bears_its_id(server: Running, api: httpx2.Client) -> None:
    before = server.samples()
    response = api.post(
        "/verify",
        json={"specification": "detection", "items": [item(GOOD), item(GOOD, "x")]},
        headers={"x-request-id": "mine"},
    )
    assert response.headers["x-request-id"] == "mine"
    after = server.samples()
    for sample in (
        "steelyard_requests_total{route=/verify,status=200}",
        "steelyard_verified_items_total{status=ok}",
        "steelyard_verified_items_total{status=refused}",
    ):
        assert after[sample] == before.get(sample, 0.0) + 1


def test_the_schema_is_described(api: httpx2.Client) -> None:
    document = api.get("/openapi.json").json()
    assert "/verify" in document["paths"]
    assert "VerifyRequest" in document["components"]["schemas"]
    assert "Specification" in json.dumps(document["components"]["schemas"]["VerifyRequest"])


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    # No worker scores for it: the route needs none, in either mode.
    with starting("--queue", "redis://127.0.0.1:1/0", "--api-key", "secret", "--max-body-bytes", "4096") as server:
        yield server


def test_a_key_is_asked_for_and_no_model_is_needed(guarded: Running) -> None:
    with guarded.client() as stranger:
        refused(post(stranger, item(GOOD)), 401, "invalid_key")
    with guarded.client(headers={"authorization": "Bearer secret"}) as client:
        assert client.get("/health/ready").status_code == 503
        assert verified(post(client, item(GOOD))).results[0].reward == REWARD
        refused(post(client, item("x" * 5000)), 413, "body_too_large")


def test_the_client_verifies(server: Running) -> None:
    with Client(server.url) as client:
        answer = client.verify("detection", [(GOOD, TRUTH), {"response": "", "truth": TRUTH, "id": "b"}])
        assert [(result.id, result.reward) for result in answer.results] == [(None, REWARD), ("b", 0.0)]
        own = client.verify(Specification(terms="2 * iou"), [VerifyItem(response=GOOD, truth=TRUTH)] * 300)
        assert [result.reward for result in own.results] == [2.0] * 300
        with pytest.raises(errors.InvalidRequest, match="nothing of the kind"):
            client.verify("nothing of the kind", [("", "")])
        with pytest.raises(errors.InvalidCall, match=r"items\.0"):
            client.verify("detection", [{"response": 1}])
        with pytest.raises(errors.InvalidCall, match="surrogate"):
            client.verify("detection", [("\ud800", "")])
        with pytest.raises(errors.InvalidCall, match=r"specification\.terms"):
            client.verify({"terms": "nothing"}, [("", "")])


async def test_the_asynchronous_client_verifies(server: Running) -> None:
    async with AsyncClient(server.url) as client:
        answer = await client.verify({"terms": "iou"}, [(GOOD, TRUTH)], time_limit_ms=500, id="mine")
        assert (answer.id, answer.results[0].reward) == ("mine", 1.0)


def test_two_workers_share_a_batch() -> None:
    with running("--verify-workers", "2") as server, server.client() as client:
        answer = verified(post(client, *[item(GOOD)] * 1000))
        assert [result.reward for result in answer.results] == [REWARD] * 1000
