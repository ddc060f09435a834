"""`POST /verify` against a real server whose workers hang, die and take memory when an item says so."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pytest

from steelyard.verify_schema import VerifyResponse
from tests.service.running import ROOT, Running, is_gone, refused, stop, until

LIMITS = ("--verify-time-limit-ms", "400", "--verify-memory-bytes", str(256 * 2**20))


@contextmanager
def scripted(*options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "tests.service.verify.scripted_server", *LIMITS, *options]
    paths = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"}
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", suffix=".log") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=paths, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield Running(process, f"http://127.0.0.1:{int(process.stdout.readline())}", log)
        finally:
            stop(process)


@pytest.fixture(scope="module")
def hostile() -> Iterator[Running]:
    with scripted() as server:
        yield server


def post(server: Running, responses: Sequence[str], **fields: Any) -> httpx2.Response:  # noqa: ANN401
    items = [{"response": response, "truth": "[]"} for response in responses]
    with server.client() as client:
        return client.post("/verify", json={"specification": "detection", "items": items} | fields)


def verified(response: httpx2.Response) -> VerifyResponse:
    assert response.status_code == 200, response.text[:500]
    answer = VerifyResponse.model_validate_json(response.content)
    assert [result.index for result in answer.results] == [*range(len(answer.results))]
    assert all((result.reward is None) == (result.status != "ok") for result in answer.results)
    return answer


def statuses(response: httpx2.Response) -> list[str]:
    return [result.status for result in verified(response).results]


def test_each_status_is_told_apart_and_none_is_a_number(hostile: Running) -> None:
    answer = verified(post(hostile, ["abc", "refuse", "hang", "memory", "die", "nan", "raise", "x" * 2**21, "ab"]))
    found = [(result.status, result.reward, result.retryable) for result in answer.results]
    assert found == [
        ("ok", 3.0, None),
        ("refused", None, False),
        ("timed_out", None, False),
        ("failed", None, False),
        ("failed", None, False),
        ("failed", None, False),
        ("failed", None, False),
        ("too_long", None, False),
        ("ok", 2.0, None),
    ]
    assert all(result.detail for result in answer.results if result.status != "ok")


def test_hostile_batches_leave_those_of_others_alone(hostile: Running) -> None:
    batches = [["hang", "a", "memory", "bb"], ["ccc"] * 300, ["die", "dddd"], ["e"], ["sleep 9", "ff"]]
    with ThreadPoolExecutor(len(batches)) as pool:
        found = [statuses(answer) for answer in pool.map(lambda batch: post(hostile, batch), batches)]
    assert found == [
        ["timed_out", "ok", "failed", "ok"],
        ["ok"] * 300,
        ["failed", "ok"],
        ["ok"],
        ["timed_out", "ok"],
    ]


def test_the_callers_own_limit_counts_where_it_is_the_shorter_one(hostile: Running) -> None:
    assert statuses(post(hostile, ["sleep 0.2"])) == ["ok"]
    answer = verified(post(hostile, ["sleep 0.2"], time_limit_ms=50))
    assert answer.results[0].detail == "it took longer than 50 ms"
    assert "limit is 400" in refused(post(hostile, ["a"], time_limit_ms=401), 422, "invalid_request")


def test_what_the_deadline_leaves_over_may_be_sent_again(hostile: Running) -> None:
    answer = verified(post(hostile, ["sleep 0.1"] * 20, deadline_ms=300))
    assert {result.status for result in answer.results} == {"ok", "expired"}
    assert all(result.retryable for result in answer.results if result.status == "expired")


def test_replaced_workers_are_counted(hostile: Running) -> None:
    before = hostile.samples()
    assert statuses(post(hostile, ["hang", "memory", "a"])) == ["timed_out", "failed", "ok"]
    after = hostile.samples()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("steelyard_verify_workers_replaced_total{cause=timed_out}") == 1
    assert grown("steelyard_verify_workers_replaced_total{cause=memory}") == 2
    assert grown("steelyard_verified_items_total{status=timed_out}") == 1
    assert after["steelyard_verify_waiting_items"] == 0


def test_a_caller_who_hangs_up_frees_the_worker() -> None:
    with scripted("--verify-time-limit-ms", "60000") as server:
        body = {"specification": "detection", "items": [{"response": "sleep 0.2", "truth": ""}] * 1000}
        with httpx2.Client(base_url=server.url, timeout=1.0) as impatient, pytest.raises(httpx2.TimeoutException):
            impatient.post("/verify", json=body)
        until(lambda: server.metric("steelyard_verify_waiting_items") == 0, "the dropped batch")
        assert statuses(post(server, ["a"])) == ["ok"]


@pytest.mark.parametrize(
    ("share", "code", "says"),
    [("1", "overloaded", "too many items wait"), ("0.5", "quota_exceeded", "too many items of this key wait")],
)
def test_a_full_queue_is_a_429_that_says_when_to_come_back(share: str, code: str, says: str) -> None:
    with scripted("--verify-waiting-items", "10", "--verify-time-limit-ms", "60000", "--key-share", share) as server:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: statuses(post(server, ["sleep 1"] * 3)))
            until(lambda: server.metric("steelyard_verify_waiting_items") == 3, "a batch that waits")
            response = post(server, ["a"] * 8)
            assert says in refused(response, 429, code)
            assert int(response.headers["retry-after"]) >= 1
            assert statuses(post(server, ["a"] * 2)) == ["ok"] * 2
            assert waiting.result() == ["ok"] * 3
        # What never fits waits until nothing else is held.
        assert statuses(post(server, ["a"] * 20)) == ["ok"] * 20


def test_a_stop_answers_what_was_accepted_and_takes_no_more() -> None:
    with scripted("--verify-time-limit-ms", "60000") as server:
        with ThreadPoolExecutor(1) as pool, server.client() as client:
            waiting = pool.submit(lambda: statuses(post(server, ["sleep 0.5"] * 4)))
            until(lambda: server.metric("steelyard_verify_waiting_items") == 4, "a batch that waits")
            children = psutil.Process(server.process.pid).children(recursive=True)
            assert client.get("/health/live").status_code == 200
            server.process.terminate()
            # The connection is kept, so that it is still listened to.
            late = client.post("/verify", json={"specification": "detection", "items": [{"response": "", "truth": ""}]})
            assert waiting.result() == ["ok"] * 4
        refused(late, 503, "unavailable")
        assert server.process.wait(30) == 0
        until(lambda: all(map(is_gone, children)), "the end of the workers")


def test_the_death_of_the_gateway_ends_the_workers() -> None:
    with scripted() as server:
        assert statuses(post(server, ["a"])) == ["ok"]
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert any("service.verify.nursery" in child.cmdline() for child in children)
        server.process.kill()
        until(lambda: all(map(is_gone, children)), "the end of the workers")
