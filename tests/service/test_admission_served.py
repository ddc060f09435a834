"""Admission at a real server: who gets through when it is full, what the others are told, and what that costs."""

import base64
import io
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.service.running import PATIENCE_S, Running, refused, running, scored, until
from tests.service.test_faults import send_raw

WAITING = "steelyard_waiting_groups"
KEYS = ("red key", "blue key", "green key")


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """Ten groups' tokens, of which train may use eight."""
    with running("--max-waiting-tokens", "2000", "--max-waiting-tiles", "30", "--online-share", "0.2") as server:
        yield server


@pytest.fixture(scope="module")
def rationed() -> Iterator[Running]:
    keys = [option for key in KEYS for option in ("--api-key", key)]
    with running(*keys, "--key-tokens-per-minute", "3000", "--key-share", "0.5", "--max-waiting", "4") as server:
        yield server


def group(name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """About 200 tokens, by the estimate."""
    return {"question": f"{name}?", "candidates": [f"{name} {i}." for i in range(4)]} | fields


def picture(width: int) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, 60)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def post(server: Running, body: dict[str, Any], key: str | None = None) -> httpx2.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx2.post(server.url + "/score_steps", json=body, headers=headers, timeout=PATIENCE_S)


def retry_after_s(response: httpx2.Response) -> int:
    return int(response.headers["retry-after"])


@contextmanager
def burst(server: Running, bodies: Sequence[dict[str, Any]]) -> Iterator[list[httpx2.Response]]:
    """All sent at once to a server whose engine stands still; inside, each was let in or refused.

    After it there is the response to every one.
    """
    decided = f"{len(bodies)} decisions"
    with server.stopped_engine(), ThreadPoolExecutor(len(bodies)) as pool:
        before = refusals(server)
        sent = [pool.submit(post, server, body) for body in bodies]
        responses: list[httpx2.Response] = []
        try:
            until(lambda: server.metric(WAITING) + refusals(server) - before == len(bodies), decided)
            yield responses
        finally:
            server.engine().resume()
            responses += [future.result() for future in sent]


def refusals(server: Running) -> float:
    return sum(value for name, value in server.samples().items() if name.startswith("steelyard_refused_groups_total"))


def idle(server: Running) -> bool:
    samples = server.samples()
    held = [value for name, value in samples.items() if name.startswith("steelyard_waiting_")]
    return len(held) == 7 and not any(held)


def test_a_burst_over_the_capacity_is_answered_or_told_when_to_come_back(small: Running) -> None:
    with burst(small, [group(f"burst {i}") for i in range(30)]) as responses:
        held = small.metric("steelyard_waiting_tokens{priority=train}")
        assert 1000 < held <= 1600
    let_in = [response for response in responses if response.status_code == 200]
    sent_off = [response for response in responses if response.status_code != 200]
    assert 5 <= len(let_in) < 25
    for response in let_in:
        assert {result.status for result in scored(response).results} == {"ok"}
    for response in sent_off:
        refused(response, 429, "overloaded")
        assert 1 <= retry_after_s(response) <= 60
    assert small.metric("steelyard_refused_groups_total{reason=tokens}") == len(sent_off)
    until(lambda: idle(small), "every permit")
    assert small.metric("steelyard_drained_per_second{kind=tokens}") > 0


def test_online_passes_while_train_is_full_and_batch_stops_before_train(small: Running) -> None:
    with burst(small, [group(f"full {i}") for i in range(20)]):
        refused(post(small, group("batch", priority="batch")), 429, "overloaded")
        refused(post(small, group("train")), 429, "overloaded")
        with ThreadPoolExecutor(1) as pool:
            before = small.metric(WAITING)
            online = pool.submit(post, small, group("online", priority="online"))
            small.await_waiting(int(before) + 1)
            small.engine().resume()
            assert {result.status for result in scored(online.result()).results} == {"ok"}
    until(lambda: idle(small), "every permit")


def test_tiles_are_counted_apart(small: Running) -> None:
    with burst(small, [group(f"seen {width}", images=[picture(width)]) for width in (60, 70, 80)]) as responses:
        assert small.metric("steelyard_waiting_tiles{priority=train}") == 13
    assert sorted(response.status_code for response in responses) == [200, 429, 429]
    assert small.metric("steelyard_refused_groups_total{reason=tiles}") == 2
    until(lambda: idle(small), "every permit")


def test_a_group_that_is_larger_than_everything_goes_alone(small: Running) -> None:
    huge = group("huge") | {"candidates": [f"{i} {'word ' * 100}" for i in range(20)]}
    with burst(small, [huge]) as responses:
        assert small.metric("steelyard_waiting_tokens{priority=train}") > 2000
        message = refused(post(small, group("behind it", priority="online")), 429, "overloaded")
        assert "tokens" in message
    scored(responses[0])
    until(lambda: idle(small), "every permit")


def test_permits_come_back_from_groups_that_are_dropped_or_cannot_be_scored(small: Running) -> None:
    refused(post(small, group("unknown", images=["sha256:" + "0" * 64])), 404, "unknown_image")
    with small.stopped_engine():
        connection = send_raw(small, group("gone"))
        small.await_waiting(1)
        connection.close()
        until(lambda: idle(small), "every permit")


def test_a_repeated_id_needs_no_permit(small: Running) -> None:
    named = group("named", id="once")
    answer = scored(post(small, named))
    with burst(small, [group(f"beside {i}") for i in range(20)]):
        assert scored(post(small, named)) == answer
        refused(post(small, named | {"id": "another"}), 429, "overloaded")


def test_a_full_server_is_healthy(small: Running) -> None:
    with burst(small, [group(f"health {i}", priority="online") for i in range(20)]):
        small.engine().resume()
        until(lambda: httpx2.get(small.url + "/health/ready", timeout=PATIENCE_S).status_code == 200, "readiness")


def test_a_refusal_reads_no_picture_and_tokenises_nothing(small: Running) -> None:
    """What it is refused for comes first: a picture that is none would be a 415, an unknown one a 404."""
    missed = "steelyard_token_cache_misses_total"
    with burst(small, [group(f"work {i}") for i in range(20)]):
        before, started = small.metric(missed), time.monotonic()
        for bad in ("bm8gcGljdHVyZQ==", "sha256:" + "0" * 64):
            refused(post(small, group("fresh", images=[bad] * 64)), 429, "overloaded")
        refused(post(small, group("long") | {"candidates": ["many words " * 1000] * 500}), 429, "overloaded")
        assert time.monotonic() - started < 5
        assert small.metric(missed) == before


def test_a_key_over_its_quota_is_told_when_it_fits_while_another_passes(rationed: Running) -> None:
    red, blue, _ = KEYS
    large = group("large") | {"candidates": [f"{i} {'word ' * 100}" for i in range(10)]}
    scored(post(rationed, large, red))
    response = post(rationed, large, red)
    assert "minute" in refused(response, 429, "quota_exceeded")
    assert 1 <= retry_after_s(response) <= 60
    scored(post(rationed, large, blue))
    assert rationed.metric("steelyard_refused_groups_total{reason=quota}") == 1


def test_what_was_refused_is_not_counted_against_the_quota(rationed: Running) -> None:
    """They are many times the minute's worth of this key."""
    unknown = group("unknown", images=["sha256:" + "0" * 64])
    for _ in range(30):
        refused(post(rationed, unknown, KEYS[2]), 404, "unknown_image")


def test_one_key_cannot_hold_everything() -> None:
    red, blue, _ = KEYS
    keys = [option for key in KEYS for option in ("--api-key", key)]
    with running(*keys, "--key-share", "0.5", "--max-waiting", "4", "--online-share", "0") as server:
        with server.stopped_engine() as engine, ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(post, server, group(f"red {i}"), red) for i in range(2)]
            server.await_waiting(2)
            response = post(server, group("red 2"), red)
            refused(response, 429, "quota_exceeded")
            assert 1 <= retry_after_s(response) <= 60
            sent += [pool.submit(post, server, group(f"blue {i}"), blue) for i in range(2)]
            server.await_waiting(4)
            engine.resume()
            for future in sent:
                scored(future.result())
        scored(post(server, group("red 2"), red))
