"""A call outlives what goes wrong, or says what did: shown with real processes and sockets."""

import asyncio
import io
import logging
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steelyard import AsyncClient, Client, Retry
from steelyard.errors import ConnectionFailed, InvalidCall, InvalidKey, ServiceError, TimedOut
from tests.client.answers import serves
from tests.client.scripted import Said, Seen, hangs_up, refuses, says, scripted
from tests.service.running import DEMO, Running, running, stop, until

KEY = "a-secret-key"
# Two of the pictures below do not fit.
STORE_BYTES = 9000
# One model alone: it is there sooner.
MODEL = ("--model", f"visualprm={DEMO}", "--api-key", KEY)
QUICK = Retry(first_s=0.01, longest_s=0.1, max_retries=1000, within_s=60)
PUTS = "steelyard_requests_total{route=/images,status=200}"
REFUSED = "steelyard_requests_total{route=/score_steps,status=429}"
WAITING = "steelyard_waiting_groups"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server with a key, room for one picture, and for one group at a time."""
    with running(*MODEL, "--image-store-bytes", str(STORE_BYTES), "--max-waiting", "1") as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url, api_key=KEY, retry=QUICK) as client:
        yield client


def noise(seed: int) -> bytes:
    """A picture of some 6 kB."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)).save(file, "PNG")
    assert STORE_BYTES / 2 < len(file.getvalue()) < STORE_BYTES
    return file.getvalue()


ONE, OTHER = noise(1), noise(2)


# The real server


def test_a_picture_that_the_server_has_dropped_is_sent_again(server: Running, client: Client) -> None:
    before = server.metric(PUTS)
    for picture in (ONE, OTHER, ONE):
        assert client.score_steps("Which?", [picture], ["x"]).results[0].status == "ok"
    assert server.metric(PUTS) == before + 3


async def test_a_picture_that_was_dropped_is_sent_again_by_a_task(server: Running) -> None:
    async with AsyncClient(server.url, api_key=KEY, retry=QUICK) as client:
        for picture in (ONE, OTHER, ONE):
            answer = await client.score_steps("Which?", [picture], ["x"])
            assert answer.results[0].status == "ok"


def test_pictures_for_which_there_is_never_room_travel_with_the_question(client: Client) -> None:
    assert client.score_steps("Which?", [ONE, OTHER], ["x"]).results[0].status == "ok"


def test_a_full_server_is_asked_again_until_it_has_room(server: Running, client: Client) -> None:
    refused = server.metric(REFUSED)
    with ThreadPoolExecutor(2) as pool:
        with server.stopped_engine():
            calls = [pool.submit(client.score_steps, f"{i}?", [], ["x"]) for i in range(2)]
            until(lambda: server.metric(REFUSED) > refused, "a refusal")
            assert not any(call.done() for call in calls)
        assert [call.result().results[0].status for call in calls] == ["ok", "ok"]


def test_an_engine_killed_at_work_costs_nobody_an_answer(server: Running, client: Client) -> None:
    with ThreadPoolExecutor(1) as pool, server.stopped_engine() as engine:
        call = pool.submit(client.score_steps, "Killed?", [], ["x", "y\n\nz"])
        server.await_waiting(1)
        engine.kill()
        assert [result.status for result in call.result().results] == ["ok", "ok"]


def test_a_wrong_key_is_named_as_such_and_never_shown(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Client(server.url, api_key="another-secret") as client, pytest.raises(InvalidKey) as caught:
        client.score_steps("Which?", [], ["x"])
    shown = f"{client!r} {caught.value!r} {caught.value} {vars(caught.value)} {client._server!r} {caplog.text}"
    assert "another-secret" not in shown


def test_the_key_is_taken_from_the_environment(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_API_KEY", KEY + "\n")
    with Client(server.url) as client:
        assert client.models().data


@pytest.mark.parametrize("key", ["line\nbreak", "schlüssel", "nul\0"])
def test_a_key_that_no_header_carries_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        Client("http://127.0.0.1:1", api_key=key)
    assert key not in str(caught.value)


def test_a_call_and_its_picture_outlive_the_server(server: Running, client: Client) -> None:
    """The last one that uses the module's server: it ends here."""
    client.put_image(ONE)
    with ThreadPoolExecutor(1) as pool, server.stopped_engine():
        call = pool.submit(client.score_steps, "Which?", [ONE], ["x", "y"])
        server.await_waiting(1)
        stop(server.process)
        with running("--port", server.url.rpartition(":")[2], *MODEL) as second:
            assert [result.status for result in call.result().results] == ["ok", "ok"]
            assert second.metric(PUTS) == 1


# Any server


def test_nobody_listening_is_a_connection_that_failed() -> None:
    port = free_port()
    with Client(f"http://u:pass@127.0.0.1:{port}", retry=Retry(max_retries=2, first_s=0.01)) as client:
        assert not client.ready()
        with pytest.raises(ConnectionFailed) as caught:
            client.models()
    assert str(port) in str(caught.value)
    assert "pass" not in f"{caught.value} {client!r}"


def test_what_may_pass_is_tried_again_and_the_rest_is_raised() -> None:
    passing = [hangs_up, says(503, b"<html>"), says(504), refuses(429, "overloaded", retry_after="0")]
    with (
        scripted(*passing, says(502, b"Bad gateway")) as server,
        Client(server.url, retry=QUICK) as client,
        pytest.raises(ServiceError, match="Bad gateway") as caught,
    ):
        client.score_steps("Which?", [], ["x"])
    assert caught.value.status == 502
    assert len(server.seen) == 5
    assert len({seen.body for seen in server.seen}) == 1


async def test_tasks_try_again_too() -> None:
    passing = [hangs_up, says(503), refuses(429, "overloaded", retry_after="0")]
    with scripted(*passing, serves) as server:
        async with AsyncClient(server.url, retry=QUICK) as client:
            assert (await client.score_steps("Which?", [b"png"], ["x"])).best == 0
    assert [seen.method for seen in server.seen] == ["PUT", "PUT", "PUT", "PUT", "POST"]


def test_a_timeout_of_the_callers_own_is_raised_and_not_tried_again() -> None:
    ended = threading.Event()

    def never(_: Seen) -> None:
        ended.wait()

    with scripted(never) as server, Client(server.url, retry=QUICK) as client:
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            client.score_steps("Which?", [], ["x"], timeout_s=0.05)
        assert len(server.seen) == 1
        ended.set()


async def test_a_task_that_is_cancelled_in_an_upload_leaves_it_to_the_next() -> None:
    arrived, ended = threading.Event(), threading.Event()

    def hold(_: Seen) -> None:
        arrived.set()
        ended.wait()

    with scripted(hold, serves) as server:
        async with AsyncClient(server.url, retry=QUICK) as client:
            first = asyncio.create_task(client.score_steps("Which?", [ONE], ["x"]))
            await asyncio.to_thread(arrived.wait)
            second = asyncio.create_task(client.score_steps("Which?", [ONE], ["x"]))
            first.cancel()
            assert (await second).best == 0
            with pytest.raises(asyncio.CancelledError):
                await first
        ended.set()
    assert [seen.method for seen in server.seen] == ["PUT", "PUT", "POST"]


class Crowd:
    """Holds every scoring call until it is released, and counts how many there ever were at once."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.present = 0
        self.most = 0

    def __call__(self, seen: Seen) -> Said:
        if seen.method == "GET":
            return Said(200)
        with self._lock:
            self.present += 1
            self.most = max(self.most, self.present)
        self.released.wait()
        with self._lock:
            self.present -= 1
        return serves(seen)

    def await_three(self, url: str) -> None:
        """Until three are held; a fourth would have connected before the one who asks then."""
        until(lambda: self.present >= 3, "three calls under way")
        with Client(url) as other:
            assert other.ready()


def test_threads_have_no_more_calls_under_way_than_they_may() -> None:
    crowd = Crowd()
    with scripted(crowd) as server, Client(server.url, max_concurrency=3) as client, ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(client.score_steps, f"{i}?", [], ["x"]) for i in range(12)]
        crowd.await_three(server.url)
        crowd.released.set()
        assert [call.result().best for call in calls] == [0] * 12
    assert crowd.most == 3


async def test_tasks_have_no_more_calls_under_way_than_they_may() -> None:
    crowd = Crowd()
    with scripted(crowd) as server:
        async with AsyncClient(server.url, max_concurrency=3) as client:
            calls = [asyncio.create_task(client.score_steps(f"{i}?", [], ["x"])) for i in range(12)]
            await asyncio.to_thread(crowd.await_three, server.url)
            crowd.released.set()
            assert [answer.best for answer in await asyncio.gather(*calls)] == [0] * 12
    assert crowd.most == 3


def test_calls_in_a_row_share_a_connection() -> None:
    with scripted(serves) as server, Client(server.url) as client:
        for _ in range(5):
            client.score_steps("Which?", [ONE], ["x"])
    assert len(server.seen) == 6
    assert len({seen.peer for seen in server.seen}) == 1


async def test_a_picture_that_is_slow_to_read_holds_up_no_other_task(tmp_path: Path) -> None:
    slow = tmp_path / "slow.png"
    os.mkfifo(slow)
    with scripted(serves) as server:
        async with AsyncClient(server.url) as client:
            waiting = asyncio.create_task(client.score_steps("Which?", [slow], ["x"]))
            assert (await client.score_steps("Which?", [ONE], ["x"])).best == 0
            assert not waiting.done()
            await asyncio.to_thread(slow.write_bytes, OTHER)
            assert (await waiting).best == 0
    assert server.seen[-2].body == OTHER


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
