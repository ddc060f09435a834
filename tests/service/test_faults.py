"""Every accepted group ends in an answer or an error: shown by killing, stopping and starving the real processes."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from steelyard.schema import ScoredGroup, ScoreStepsResponse, StepScores
from tests.service.running import (
    DEMO,
    PATIENCE_S,
    Running,
    await_ready,
    is_gone,
    launch,
    refused,
    running,
    same_scores,
    scored,
    shared,
    starting,
    until,
)

RESTARTS, WAITING = "steelyard_engine_restarts", "steelyard_waiting_groups"
ABANDONED = "steelyard_abandoned_groups_total"
# Processor seconds of the engine by which it is surely inside the forward of a large group, and not yet through.
INSIDE_S = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server whose engine may be killed: it is there again in the end. One forward holds a large group."""
    with running("--batch-tokens", "65536") as server:
        yield server


@pytest.fixture(scope="module")
def narrow() -> Iterator[Running]:
    with running("--max-waiting", "1") as server:
        yield server


def group(name: str, candidates: int = 2, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """A small group; no two share anything by name."""
    return {"question": f"{name}?", "candidates": [f"{name} {i}.\n\nStep two." for i in range(candidates)]} | fields


def large(name: str, candidates: int = 20, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """A group whose forward takes a second or more of processor time."""
    words = "The picture shows a red circle and so on. " * 180
    return group(name) | {"candidates": [f"{name} {i}. {words}" for i in range(candidates)]} | fields


def seeing(name: str) -> dict[str, Any]:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((120, 60)).save(file, "PNG")
    return group(name, candidates=4, images=[base64.b64encode(file.getvalue()).decode()])


def post(server: Running, body: dict[str, Any], patience_s: float = PATIENCE_S) -> httpx2.Response:
    return httpx2.post(server.url + "/score_steps", json=body, timeout=patience_s)


@contextmanager
def in_flight(server: Running, bodies: Sequence[dict[str, Any]]) -> Iterator[list[Future[httpx2.Response]]]:
    """Each body sent by a caller of its own, all of them accepted and waiting."""
    already = server.metric(WAITING)
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = [pool.submit(post, server, body) for body in bodies]
        server.await_waiting(int(already) + len(bodies))
        yield answers


def answers_of(futures: Sequence[Future[httpx2.Response]]) -> list[ScoreStepsResponse]:
    return [scored(future.result()) for future in futures]


def await_forward(engine: psutil.Process, since_s: float) -> None:
    """Until the engine has worked for a while, which only a forward makes it do."""
    until(lambda: processor_s(engine) - since_s > INSIDE_S, "a forward")


def processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def send_raw(server: Running, body: dict[str, Any], accept: str = "*/*") -> socket.socket:
    """A connection on which the request has been sent and no answer read."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    content = json.dumps(body).encode()
    head = f"POST /score_steps HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    connection.sendall(head.encode() + content)
    return connection


# The engine dies


def test_callers_get_their_scores_when_the_engine_is_killed_in_mid_batch(server: Running) -> None:
    bodies = [*(large(f"mid-batch {i}", candidates=2) for i in range(10)), *(seeing(f"picture {i}") for i in range(6))]
    before = [scored(post(server, body)) for body in bodies]
    restarts = server.metric(RESTARTS)
    with server.stopped_engine() as engine:
        worked_s = processor_s(engine)
        with in_flight(server, bodies) as answers:
            engine.resume()
            await_forward(engine, worked_s)
            engine.suspend()
            assert not all(answer.done() for answer in answers)
            engine.kill()
            after = answers_of(answers)
    assert all(same_scores(one, other) for one, other in zip(before, after, strict=True))
    assert server.metric(RESTARTS) == restarts + 1
    assert server.metric(WAITING) == 0


def test_an_engine_killed_while_idle_is_back_for_the_next_caller(server: Running) -> None:
    before = scored(post(server, group("idle")))
    engine = server.engine()
    engine.kill()
    assert same_scores(before, scored(post(server, group("idle"))))
    server.await_restart(engine)


def test_a_stream_goes_on_when_the_engine_is_killed_and_no_result_comes_twice(server: Running) -> None:
    # More than one forward holds, so that results are there before the engine dies.
    body = large("stream", candidates=28)
    accept = {"Accept": "application/x-ndjson"}
    with server.client() as client, client.stream("POST", "/score_steps", json=body, headers=accept) as response:
        lines = response.iter_lines()
        first = next(lines)
        server.engine().kill()
        *rest, last = list(lines)
    results = [StepScores.model_validate_json(line) for line in (first, *rest)]
    assert sorted(result.index for result in results) == list(range(28))
    assert {result.status for result in results} == {"ok"}
    assert len(ScoredGroup.model_validate_json(last).ranking) == 28


def test_a_group_that_kills_three_engines_fails_and_its_neighbours_are_scored(server: Running) -> None:
    neighbours = [group(f"neighbour {i}", deadline_ms=600_000) for i in range(3)]
    before = [scored(post(server, body)) for body in neighbours]
    deaths = server.metric(RESTARTS)
    with server.stopped_engine() as engine, in_flight(server, [large("killer", deadline_ms=300_000)]) as killer:
        with in_flight(server, neighbours) as answers:
            worked_s = processor_s(engine)
            engine.resume()
            for death in range(3):
                await_forward(engine, worked_s)
                engine.kill()
                server.await_restarts(deaths + death + 1)
                engine = server.engine()
                worked_s = processor_s(engine)
            after = answers_of(answers)
        (given_up,) = answers_of(killer)
    assert all(same_scores(one, other) for one, other in zip(before, after, strict=True))
    assert {(result.status, result.retryable, result.score) for result in given_up.results} == {("failed", False, None)}
    assert "3 times" in (given_up.results[0].detail or "")
    assert (given_up.best, given_up.ranking) == (None, [])


def test_pictures_are_still_known_after_the_engine_died(server: Running) -> None:
    before = scored(post(server, seeing("still known")))
    engine = server.engine()
    engine.kill()
    server.await_restart(engine)
    assert same_scores(before, scored(post(server, seeing("still known"))))


# The caller goes


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_group_whose_caller_hung_up_costs_no_forward(server: Running, accept: str) -> None:
    engine = server.engine()
    started_s = processor_s(engine)
    scored(post(server, large("attended")))
    attended_s = processor_s(engine) - started_s
    abandoned = server.metric(ABANDONED)
    with server.stopped_engine():
        started_s = processor_s(engine)
        with send_raw(server, large("hung up"), accept):
            server.await_waiting(1)
        until(lambda: server.metric(ABANDONED) == abandoned + 1, "an abandoned group")
        assert server.metric(WAITING) == 0
    scored(post(server, group("the next one")))
    assert processor_s(engine) - started_s < attended_s / 4


def test_a_caller_who_hangs_up_in_mid_stream_is_noticed(server: Running) -> None:
    abandoned = server.metric(ABANDONED)
    body = group("mid-stream") | {"candidates": ["<IMG_CONTEXT>", "b"]}
    with server.stopped_engine():
        with send_raw(server, body, "application/x-ndjson") as connection:
            until(lambda: b'"refused"' in connection.recv(65536), "the first line")
        until(lambda: server.metric(ABANDONED) == abandoned + 1, "an abandoned group")
        assert server.metric(WAITING) == 0


def test_a_group_lives_while_one_of_its_callers_waits(server: Running) -> None:
    body = group("two callers", id="two callers")
    replays = "steelyard_replayed_groups_total"
    before, abandoned = server.metric(replays), server.metric(ABANDONED)
    with ThreadPoolExecutor(1) as pool:
        with server.stopped_engine():
            with send_raw(server, body):
                server.await_waiting(1)
                stays = pool.submit(post, server, body)
                until(lambda: server.metric(replays) == before + 1, "the second caller")
            gone = "steelyard_requests_total{route=/score_steps,status=499}"
            until(lambda: server.metric(gone) > 0, "the first caller's end")
        scored(stays.result())
    assert server.metric(ABANDONED) == abandoned


def test_an_abandoned_id_can_be_used_again(server: Running) -> None:
    abandoned = server.metric(ABANDONED)
    with server.stopped_engine():
        with send_raw(server, group("first try", id="abandoned")):
            server.await_waiting(1)
        until(lambda: server.metric(ABANDONED) == abandoned + 1, "an abandoned group")
    scored(post(server, group("first try", id="abandoned")))


# Deadlines


def test_groups_that_waited_past_their_deadline_are_expired_and_tried_again_by_id(server: Running) -> None:
    late = [group(f"late {i}", deadline_ms=2000, id=f"late {i}") for i in range(2)]
    patient = group("patient")
    with server.stopped_engine() as engine, in_flight(server, [*late, patient]) as answers:
        passed = time.monotonic() + 2.0
        until(lambda: time.monotonic() > passed, "the deadline")
        engine.resume()
        *expired, fine = answers_of(answers)
    for answer in expired:
        assert {(r.status, r.score, r.retryable) for r in answer.results} == {("expired", None, True)}
        assert (answer.best, answer.ranking, answer.usage.computed_tokens) == (None, [], 0)
    assert {result.status for result in fine.results} == {"ok"}
    assert {result.status for result in scored(post(server, late[0])).results} == {"ok"}


def test_a_group_without_an_answer_is_504_after_its_deadline_and_some_grace(server: Running) -> None:
    with server.stopped_engine():
        started = time.monotonic()
        refused(post(server, group("hopeless", deadline_ms=1)), 504, "deadline_exceeded")
        assert 9.9 < time.monotonic() - started < 15
        assert server.metric(WAITING) == 0
    scored(post(server, group("hopeless")))


@pytest.mark.slow
def test_a_stopped_engine_makes_the_server_unready_and_a_running_one_ready(server: Running) -> None:
    engine = server.engine()
    engine.kill()
    server.await_restart(engine)
    with server.stopped_engine():
        # A good answer counts for ten seconds, and the canary is waited for as long.
        until(lambda: _ready(server).status_code == 503, "unreadiness")
    until(lambda: _ready(server).status_code == 200, "readiness")


def _ready(server: Running) -> httpx2.Response:
    return httpx2.get(server.url + "/health/ready", timeout=PATIENCE_S)


# Permits


def test_without_a_permit_a_group_is_429_and_the_accepted_one_is_answered(narrow: Running) -> None:
    with narrow.stopped_engine() as engine, in_flight(narrow, [group("accepted")]) as accepted:
        response = post(narrow, group("one too many"))
        refused(response, 429, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        engine.resume()
        answers_of(accepted)
    scored(post(narrow, group("one too many")))


def test_a_burst_takes_no_more_permits_than_there_are(narrow: Running) -> None:
    """All requests lie in the sockets before the gateway looks at the first."""
    gateway = psutil.Process(narrow.process.pid)
    refusals = "steelyard_requests_total{route=/score_steps,status=429}"
    before = narrow.metric(refusals)
    with narrow.stopped_engine():
        gateway.suspend()
        try:
            burst = [send_raw(narrow, group(f"burst {i}")) for i in range(100)]
        finally:
            gateway.resume()
        try:
            until(lambda: narrow.metric(refusals) - before + narrow.metric(WAITING) == 100, "a hundred decisions")
            assert narrow.metric(refusals) - before == 99
        finally:
            for connection in burst:
                connection.close()


def test_two_servers_give_the_same_scores(narrow: Running, request: pytest.FixtureRequest) -> None:
    one, other = (scored(post(server, seeing("two servers"))) for server in (narrow, shared(request.session)))
    assert same_scores(one, other)
    assert one.provenance == other.provenance


# Stopping and starting


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_was_accepted_and_exits_cleanly(order: signal.Signals) -> None:
    with running() as server:
        before = scored(post(server, group("drained")))
        with server.stopped_engine() as engine, in_flight(server, [group("drained")] * 3) as answers:
            server.process.send_signal(order)
            until(lambda: _turns_away(server), "a server that takes nothing new")
            assert not any(answer.done() for answer in answers)
            engine.resume()
            assert all(same_scores(before, answer) for answer in answers_of(answers))
        assert server.process.wait(PATIENCE_S) == 0
        assert is_gone(engine)
        assert "Traceback" not in server.logged()


def _turns_away(server: Running) -> bool:
    try:
        response = post(server, group("too late"))
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
        # Not listening any more, or hung up on between the connection and its request.
        return True
    refused(response, 503, "unavailable")
    assert "retry-after" in response.headers
    return False


@pytest.mark.slow
def test_a_stop_ends_a_stopped_engine_too() -> None:
    with running() as server, server.stopped_engine() as engine:
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert is_gone(engine)


@pytest.mark.parametrize("busy", [False, True])
def test_the_engine_ends_by_itself_when_the_gateway_is_killed(busy: bool) -> None:
    with running() as server:
        engine = server.engine()
        worked_s = processor_s(engine)
        with ThreadPoolExecutor(1) as pool:
            if busy:
                caller = pool.submit(post, server, large("orphan"))
                await_forward(engine, worked_s)
            server.process.kill()
            until(lambda: is_gone(engine), "the engine's end", patience_s=20)
            if busy:
                assert isinstance(caller.exception(), httpx2.TransportError)


def test_a_loading_server_is_alive_but_unavailable() -> None:
    with starting() as server:
        with server.stopped_engine(), server.client() as client:
            assert client.get("/health/live").status_code == 200
            for response in (post(server, group("early")), client.get("/models")):
                refused(response, 503, "unavailable")
                assert int(response.headers["retry-after"]) >= 1
            ready = client.get("/health/ready")
            assert (ready.status_code, "retry-after" in ready.headers) == (503, True)
        await_ready(server)
        scored(post(server, group("early")))


def test_a_loading_server_can_be_stopped() -> None:
    with starting() as server:
        engine = server.engine()
        server.process.terminate()
        assert server.process.wait(20) == 0
        until(lambda: is_gone(engine), "the engine's end", patience_s=20)
        assert "Traceback" not in server.logged()


def test_an_engine_that_dies_while_loading_stops_the_start() -> None:
    with starting("--log-level", "error") as server:
        server.engine().kill()
        assert server.process.wait(PATIENCE_S) == 1
        (line,) = server.logged().splitlines()
        assert "engine process died" in line
        assert "signal 9" in line


def copy_demo(folder: Path, *without: str) -> Path:
    """The demo's checkpoint with some of its files left out."""
    return shutil.copytree(DEMO, folder / "checkpoint", ignore=shutil.ignore_patterns(*without))


def empty_folder(folder: Path) -> list[str]:
    return ["--model", f"prm={folder}"]


def no_folder(folder: Path) -> list[str]:
    return ["--model", f"prm={folder}/nowhere"]


def no_tokenizer(folder: Path) -> list[str]:
    return ["--model", f"prm={copy_demo(folder, 'tokenizer.model')}"]


def no_weights(folder: Path) -> list[str]:
    return ["--model", f"prm={copy_demo(folder, '*.safetensors')}"]


def broken_config(folder: Path) -> list[str]:
    checkpoint = copy_demo(folder)
    (checkpoint / "config.json").write_text('{"architectures": [', encoding="utf-8")
    return ["--model", f"prm={checkpoint}"]


def truncated_weights(folder: Path) -> list[str]:
    checkpoint = copy_demo(folder)
    weights = next(checkpoint.glob("*.safetensors"))
    os.truncate(weights, weights.stat().st_size // 2)
    return ["--model", f"prm={checkpoint}"]


def unknown_option(_: Path) -> list[str]:
    return ["--prot", "1"]


def bad_value(_: Path) -> list[str]:
    return ["--batch-tokens", "many"]


def absent_device(_: Path) -> list[str]:
    return ["--device", "cuda"]


def strange_queue(_: Path) -> list[str]:
    return ["--queue", "carrier://pigeon"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (empty_folder, "config.json"),
        (no_folder, "nowhere"),
        (no_tokenizer, "tokenizer.model"),
        (no_weights, "safetensors"),
        (broken_config, "config.json"),
        (truncated_weights, ".safetensors"),
        (unknown_option, "--prot"),
        (bad_value, "--batch-tokens"),
        (strange_queue, "--queue"),
        pytest.param(
            absent_device, "--device", marks=pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
        ),
    ],
)
def test_a_start_that_cannot_succeed_says_why_in_one_line(
    tmp_path: Path, options: Callable[[Path], list[str]], named: str
) -> None:
    assert named in failed_start("--log-level", "error", *options(tmp_path))


def test_a_busy_port_stops_the_start(request: pytest.FixtureRequest) -> None:
    port = shared(request.session).url.rpartition(":")[2]
    line = failed_start("--log-level", "error", "--port", port)
    assert port in line
    assert "in use" in line


def failed_start(*options: str) -> str:
    """The one line on stderr of a server that gave up."""
    with launch(*options) as process:
        printed, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert printed == ""
    (line,) = log.splitlines()
    assert line.startswith("steelyard: ")
    return str(line)
