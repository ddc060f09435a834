"""Sleep, wake and reload of a real server: memory is given back, no request is dropped, no answer mixes two weights."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.random_checkpoint import write_tensors
from models.checkpoint import weights_digest
from models.visual_prm.network import tensor_shapes
from models.visual_prm.spec import read_spec
from steelyard import Client, Retry
from steelyard.schema import ErrorResponse, Loaded, ScoredGroup, ScoreStepsResponse, StepScores
from tests.service.running import (
    DEMO,
    PATIENCE_S,
    Running,
    find_engine,
    is_gone,
    refused,
    running,
    same_scores,
    scored,
    shared,
    until,
)
from tests.service.test_faults import await_forward, group, large, processor_s, seeing

WAITING, RESTARTS, RELOADS = "steelyard_waiting_groups", "steelyard_engine_restarts", "steelyard_reloads_total"
ORDERS = ("/admin/sleep", "/admin/wake", "/admin/reload")


@dataclass(frozen=True, slots=True)
class Shared:
    """A server that takes orders, and two checkpoints for it: the first is what it starts with."""

    server: Running
    checkpoints: tuple[Path, Path]

    def client(self, key: str = "caller") -> httpx2.Client:
        return self.server.client(headers={"Authorization": f"Bearer {key}"})

    def order(self, path: str, body: Mapping[str, Any] | None = None, key: str = "admin") -> httpx2.Response:
        with self.client(key) as client:
            return client.post(path, json=body) if body is not None else client.post(path)

    def post(self, body: Mapping[str, Any]) -> httpx2.Response:
        with self.client() as client:
            return client.post("/score_steps", json=body)

    def score(self, body: Mapping[str, Any]) -> ScoreStepsResponse:
        return scored(self.post(body))

    def serve(self, index: int) -> str:
        """The digest of the checkpoint that is served from now on."""
        return obeyed(self.order("/admin/reload", {"models": {"prm": str(self.checkpoints[index])}}), "awake")

    def ready(self) -> httpx2.Response:
        return httpx2.get(self.server.url + "/health/ready", timeout=PATIENCE_S)

    def await_state(self, state: str) -> None:
        until(lambda: self.ready().json()["status"] == state, state)


def obeyed(response: httpx2.Response, status: str) -> str:
    """The digest of the weights that were loaded last."""
    assert response.status_code == 200, response.text
    loaded = Loaded.model_validate_json(response.content)
    assert loaded.status == status
    return loaded.models[0].provenance.weights


def other_weights(folder: Path) -> Path:
    """The demo's checkpoint with other numbers."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    write_tensors(folder, tensor_shapes(read_spec(folder)), dtype=torch.float32, seed=5)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return DEMO, other_weights(tmp_path_factory.mktemp("weights") / "other")


@pytest.fixture(scope="module")
def lasting(checkpoints: tuple[Path, Path]) -> Iterator[Shared]:
    options = ("--model", f"prm={DEMO}", "--admin-key", "admin", "--api-key", "caller", "--batch-tokens", "4096")
    with running(*options) as server:
        yield Shared(server, checkpoints)


@pytest.fixture
def here(lasting: Shared) -> Iterator[Shared]:
    """The server, awake with the first checkpoint before and after each test."""
    yield lasting
    with lasting.client("admin") as client:
        assert client.post("/admin/wake").status_code == 200
        if client.get("/models").json()["data"][0]["provenance"]["weights"] != digest_of(lasting, 0):
            lasting.serve(0)
    assert lasting.server.metric(WAITING) == 0


def digest_of(here: Shared, index: int) -> str:
    return weights_digest(here.checkpoints[index])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


# Asleep


def test_sleep_ends_the_engine_and_gives_its_memory_back(here: Shared) -> None:
    here.score(group("before"))
    engine, gateway = here.server.engine(), psutil.Process(here.server.process.pid)
    engine_bytes, all_bytes = engine.memory_info().rss, resident(gateway)
    obeyed(here.order("/admin/sleep"), "asleep")
    assert is_gone(engine)
    assert find_engine(gateway.pid) is None
    assert engine_bytes > 2**27
    assert resident(gateway) < all_bytes - 0.9 * engine_bytes
    assert here.server.metric("steelyard_asleep") == 1


def resident(process: psutil.Process) -> int:
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def test_what_comes_while_it_sleeps_is_answered_after_the_wake_with_the_same_numbers(
    here: Shared, pool: ThreadPoolExecutor
) -> None:
    bodies = [*(group(f"asleep {i}") for i in range(4)), seeing("asleep")]
    before = [here.score(body) for body in bodies]
    restarts = here.server.metric(RESTARTS)
    obeyed(here.order("/admin/sleep"), "asleep")
    answers = [pool.submit(here.score, body) for body in bodies]
    here.server.await_waiting(len(bodies))
    assert obeyed(here.order("/admin/wake"), "awake") == digest_of(here, 0)
    assert all(same_scores(one, other.result()) for one, other in zip(before, answers, strict=True))
    assert here.server.metric(RESTARTS) == restarts
    assert here.server.metric("steelyard_asleep") == 0


def test_a_sleeping_server_is_alive_and_unready_and_names_its_models(here: Shared) -> None:
    with here.client() as client:
        awake = client.get("/models").json()
        obeyed(here.order("/admin/sleep"), "asleep")
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "asleep")
        assert "wake" in ready.json()["reason"]
        assert client.get("/health/live").status_code == 200
        assert client.get("/models").json() == awake
        assert find_engine(here.server.process.pid) is None
        obeyed(here.order("/admin/wake"), "awake")
        assert client.get("/health/ready").status_code == 200


def test_a_second_sleep_and_a_second_wake_change_nothing(here: Shared) -> None:
    engine = here.server.engine()
    obeyed(here.order("/admin/wake"), "awake")
    assert here.server.engine().pid == engine.pid
    assert obeyed(here.order("/admin/sleep"), "asleep") == obeyed(here.order("/admin/sleep"), "asleep")
    obeyed(here.order("/admin/wake"), "awake")
    engine = here.server.engine()
    obeyed(here.order("/admin/wake"), "awake")
    assert here.server.engine().pid == engine.pid


@pytest.mark.slow
def test_a_group_that_was_scored_in_part_is_finished_after_the_wake(here: Shared, pool: ThreadPoolExecutor) -> None:
    body = large("in part")
    whole = here.score(body)
    first = Event()
    streamed = pool.submit(stream, here, large("in part "), first)
    assert first.wait(PATIENCE_S)
    obeyed(here.order("/admin/sleep"), "asleep")
    assert not streamed.done()
    obeyed(here.order("/admin/wake"), "awake")
    results, last = streamed.result()
    assert [result.status for result in results] == ["ok"] * len(whole.results)
    assert last.provenance == whole.provenance
    assert same_scores(here.score(large("in part ")), ScoreStepsResponse(**dict(last) | {"results": results}))


def stream(here: Shared, body: Mapping[str, Any], first: Event) -> tuple[list[StepScores], ScoredGroup]:
    """Results in the caller's order, and the rest; `first` is set once a result is there."""
    accept = {"Accept": "application/x-ndjson"}
    lines = []
    with here.client() as client, client.stream("POST", "/score_steps", json=body, headers=accept) as response:
        for line in response.iter_lines():
            lines.append(line)
            first.set()
    *results, last = lines
    found = [StepScores.model_validate_json(line) for line in results]
    return sorted(found, key=lambda result: result.index), ScoredGroup.model_validate_json(last)


def test_a_forward_that_takes_too_long_is_cut_off_and_run_again(
    checkpoints: tuple[Path, Path], pool: ThreadPoolExecutor
) -> None:
    with running("--model", f"prm={DEMO}", "--admin-key", "admin", "--drain-s", "1") as server:
        here = Shared(server, checkpoints)
        engine = server.engine()
        worked_s = processor_s(engine)
        answer = pool.submit(here.score, large("too long"))
        await_forward(engine, worked_s)
        engine.suspend()
        obeyed(here.order("/admin/sleep"), "asleep")
        assert is_gone(engine)
        obeyed(here.order("/admin/wake"), "awake")
        assert {result.status for result in answer.result().results} == {"ok"}


def test_deadlines_hold_while_it_sleeps(here: Shared) -> None:
    obeyed(here.order("/admin/sleep"), "asleep")
    refused(here.post(group("too late", deadline_ms=1)), 504, "deadline_exceeded")


def test_orders_that_come_together_are_followed_one_by_one(here: Shared, pool: ThreadPoolExecutor) -> None:
    answers = [pool.submit(here.order, path) for path in ORDERS * 2]
    assert {answer.result().status_code for answer in answers} == {200}
    obeyed(here.order("/admin/wake"), "awake")
    assert here.score(group("after all of them")).results[0].status == "ok"


def test_a_stop_turns_away_what_waits_for_a_wake(checkpoints: tuple[Path, Path], pool: ThreadPoolExecutor) -> None:
    options = ("--model", f"prm={DEMO}", "--admin-key", "admin", "--api-key", "caller")
    with running(*options) as server:
        here = Shared(server, checkpoints)
        obeyed(here.order("/admin/sleep"), "asleep")
        queued = pool.submit(here.post, group("queued"))
        server.await_waiting(1)
        here.order("/admin/reload", {"models": {"prm": str(checkpoints[1])}})
        held = pool.submit(here.post, group("held"))
        server.await_waiting(2)
        server.process.send_signal(signal.SIGTERM)
        for answer in (queued, held):
            assert "stopping" in refused(answer.result(), 503, "unavailable")
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.logged()


# Reloaded


def test_a_reload_under_load_drops_nothing_and_no_answer_mixes_two_weights(
    here: Shared, pool: ThreadPoolExecutor
) -> None:
    bodies = [*(group(f"load {i}", candidates=3) for i in range(6)), seeing("load")]
    digests = digest_of(here, 0), digest_of(here, 1)
    expected = {digests[0]: [here.score(body) for body in bodies]}
    stop, found = Event(), list[tuple[int, httpx2.Response]]()

    def call(start: int) -> None:
        turn = start
        while not stop.is_set():
            turn = (turn + 1) % len(bodies)
            found.append((turn, here.post(bodies[turn])))

    def await_more() -> None:
        already = len(found)
        until(lambda: len(found) > already + 20, "some answers")

    callers = [pool.submit(call, start) for start in range(8)]
    for index in (1, 0, 1):
        await_more()
        assert here.serve(index) == digests[index]
    await_more()
    stop.set()
    for caller in callers:
        caller.result()
    expected[digests[1]] = [here.score(body) for body in bodies]
    assert not any(map(same_scores, *expected.values()))
    answers = [(turn, scored(response)) for turn, response in found]
    assert {answer.provenance.weights for _, answer in answers} == set(digests)
    assert all(same_scores(answer, expected[answer.provenance.weights][turn]) for turn, answer in answers)


def test_what_was_begun_is_finished_by_the_weights_before(here: Shared, pool: ThreadPoolExecutor) -> None:
    before = here.score(large("begun"))
    first = Event()
    streamed = pool.submit(stream, here, large("begun, too"), first)
    assert first.wait(PATIENCE_S)
    digest = here.serve(1)
    results, last = streamed.result()
    assert {result.status for result in results} == {"ok"}
    assert last.provenance == before.provenance
    after = here.score(large("begun, too"))
    assert after.provenance.weights == digest
    assert not same_scores(after, ScoreStepsResponse(**dict(last) | {"results": results}))


def test_who_waits_through_a_reload_gets_the_new_weights_or_a_409_for_the_old(
    here: Shared, pool: ThreadPoolExecutor
) -> None:
    old, new = digest_of(here, 0), digest_of(here, 1)
    pins: list[dict[str, Any]] = [{"weights": old}, {}, {"weights": new}]
    with here.server.stopped_engine() as engine:
        sent = [pool.submit(here.post, group("sent before", **pin)) for pin in pins[:2]]
        here.server.await_waiting(2)
        refused(here.post(group("sent before", weights=new)), 409, "other_weights")
        reload = pool.submit(here.serve, 1)
        here.await_state("reloading")
        held = [pool.submit(here.post, group("held", **pin)) for pin in pins]
        here.server.await_waiting(5)
        engine.resume()
        assert reload.result() == new
    for pinned in (sent[0], held[0]):
        assert old in refused(pinned.result(), 409, "other_weights")
    for answer in (sent[1], *held[1:]):
        assert scored(answer.result()).provenance.weights == new
    refused(here.post(group("after", weights=old)), 409, "other_weights")
    here.score(group("after", weights=new))


def test_a_repeated_id_keeps_its_answer_through_a_reload(here: Shared) -> None:
    old = digest_of(here, 0)
    pinned, free = (group("repeated", id="pinned", weights=old), group("repeated", id="free"))
    before = [here.score(pinned), here.score(free)]
    here.serve(1)
    assert [here.score(pinned), here.score(free)] == before
    refused(here.post({**pinned, "weights": digest_of(here, 1)}), 409, "id_reused")
    assert here.score(group("repeated")).provenance.weights != old


@pytest.mark.slow
def test_a_reload_without_sources_reads_the_same_again(here: Shared) -> None:
    here.serve(1)
    engine = here.server.engine()
    assert obeyed(here.order("/admin/reload"), "awake") == digest_of(here, 1)
    assert here.server.engine().pid != engine.pid
    assert here.ready().json() == {"status": "ok"}


def test_a_reload_of_a_sleeping_server_is_loaded_by_the_next_wake(here: Shared, pool: ThreadPoolExecutor) -> None:
    obeyed(here.order("/admin/sleep"), "asleep")
    sent = [pool.submit(here.post, group("asleep", weights=pin)) for pin in (None, digest_of(here, 0))]
    here.server.await_waiting(2)
    assert obeyed(here.order("/admin/reload", {"models": {"prm": str(here.checkpoints[1])}}), "asleep")
    assert find_engine(here.server.process.pid) is None
    sent += [pool.submit(here.post, group("later")), pool.submit(here.post, group("pin", weights=digest_of(here, 1)))]
    here.server.await_waiting(4)
    assert obeyed(here.order("/admin/wake"), "awake") == digest_of(here, 1)
    refused(sent.pop(1).result(), 409, "other_weights")
    assert {scored(answer.result()).provenance.weights for answer in sent} == {digest_of(here, 1)}
    assert here.ready().json() == {"status": "ok"}


def test_a_group_cut_in_two_by_sleep_and_reload_has_no_numbers_of_the_second_weights(
    here: Shared, pool: ThreadPoolExecutor
) -> None:
    first = Event()
    streamed = pool.submit(stream, here, large("cut in two"), first)
    assert first.wait(PATIENCE_S)
    obeyed(here.order("/admin/sleep"), "asleep")
    obeyed(here.order("/admin/reload", {"models": {"prm": str(here.checkpoints[1])}}), "asleep")
    results, last = streamed.result()
    assert {(result.status, result.retryable) for result in results} == {("ok", None), ("failed", True)}
    assert all((result.score is None) == (result.status == "failed") for result in results)
    assert last.provenance.weights == digest_of(here, 0)


def truncated(folder: Path) -> Path:
    checkpoint = shutil.copytree(DEMO, folder / "truncated")
    weights = min(checkpoint.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return checkpoint


def not_finite(folder: Path) -> Path:
    checkpoint = shutil.copytree(DEMO, folder / "not finite")
    weights = min(checkpoint.glob("*.safetensors"))
    tensors = load_file(weights)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, weights, metadata={"format": "pt"})
    return checkpoint


@pytest.mark.parametrize("broken", [truncated, not_finite])
def test_a_checkpoint_that_cannot_be_loaded_leaves_the_one_before(
    here: Shared, tmp_path: Path, pool: ThreadPoolExecutor, broken: Callable[[Path], Path]
) -> None:
    source = str(broken(tmp_path))
    before, failed = here.score(group("kept")), here.server.metric(RELOADS + "{result=failed}")
    reload = pool.submit(here.order, "/admin/reload", {"models": {"prm": source}})
    here.await_state("reloading")
    held = pool.submit(here.score, group("kept"))
    assert source in refused(reload.result(), 422, "cannot_load")
    for answer in (held.result(), here.score(group("kept"))):
        assert same_scores(answer, before)
        assert answer.provenance == before.provenance
    assert here.ready().json() == {"status": "ok"}
    assert here.server.metric(RELOADS + "{result=failed}") == failed + 1


def test_a_broken_checkpoint_leaves_a_sleeping_server_asleep(here: Shared, tmp_path: Path) -> None:
    obeyed(here.order("/admin/sleep"), "asleep")
    here.order("/admin/reload", {"models": {"prm": str(truncated(tmp_path))}})
    refused(here.order("/admin/wake"), 422, "cannot_load")
    assert here.ready().json()["status"] == "asleep"
    obeyed(here.order("/admin/reload", {"models": {"prm": str(DEMO)}}), "asleep")
    obeyed(here.order("/admin/wake"), "awake")


@pytest.mark.parametrize("source", ["/etc", "/nowhere/at/all", "~nobody-here/x", "../../etc", "", "demo/visualprm/x"])
def test_what_is_no_checkpoint_is_refused_in_the_same_words_and_touches_nothing(here: Shared, source: str) -> None:
    engine = here.server.engine()
    message = refused(here.order("/admin/reload", {"models": {"prm": source}}), 422, "cannot_load")
    form = "no checkpoint's folder, and not a hub id of the form ORG/REPO@REVISION"
    assert message == f"models.prm: {source}: {form}"
    assert here.server.engine().pid == engine.pid


def test_an_unknown_name_and_another_family_are_refused(here: Shared) -> None:
    ixc = str(DEMO.parent / "ixc_reward")
    assert "prm" in refused(here.order("/admin/reload", {"models": {"x": ixc}}), 422, "invalid_request")
    assert "ixc_reward" in refused(here.order("/admin/reload", {"models": {"prm": ixc}}), 422, "cannot_load")
    refused(here.order("/admin/reload", {"model": {}}), 422, "invalid_request")


# The engine dies


@pytest.mark.slow
def test_an_engine_killed_while_it_goes_to_sleep_loses_nothing(here: Shared, pool: ThreadPoolExecutor) -> None:
    before = here.score(large("killed at bedtime"))
    engine = here.server.engine()
    worked_s = processor_s(engine)
    answer = pool.submit(here.score, large("killed at bedtime,"))
    await_forward(engine, worked_s)
    engine.suspend()
    sleep = pool.submit(here.order, "/admin/sleep")
    here.await_state("asleep")
    assert not sleep.done()
    engine.kill()
    obeyed(sleep.result(), "asleep")
    assert find_engine(here.server.process.pid) is None
    obeyed(here.order("/admin/wake"), "awake")
    assert answer.result().provenance == before.provenance
    assert {result.status for result in answer.result().results} == {"ok"}


def test_a_wake_whose_engine_is_killed_says_so_and_the_next_one_wakes(here: Shared, pool: ThreadPoolExecutor) -> None:
    obeyed(here.order("/admin/sleep"), "asleep")
    answer = pool.submit(here.score, group("waits for the second wake"))
    here.server.await_waiting(1)
    wake = pool.submit(here.order, "/admin/wake")
    here.server.engine().kill()
    assert "signal 9" in refused(wake.result(), 503, "unavailable")
    assert here.ready().json()["status"] == "asleep"
    obeyed(here.order("/admin/wake"), "awake")
    assert answer.result().results[0].status == "ok"


def test_sleep_while_the_engine_is_started_again(here: Shared) -> None:
    here.server.engine().kill()
    obeyed(here.order("/admin/sleep"), "asleep")
    assert find_engine(here.server.process.pid) is None
    obeyed(here.order("/admin/wake"), "awake")
    here.score(group("awake again"))


@pytest.mark.slow
def test_the_old_engine_killed_in_a_reload_is_started_again_to_finish(here: Shared, pool: ThreadPoolExecutor) -> None:
    first = Event()
    streamed = pool.submit(stream, here, large("finished by another"), first)
    assert first.wait(PATIENCE_S)
    with here.server.stopped_engine() as engine:
        reload = pool.submit(here.serve, 1)
        here.await_state("reloading")
        engine.kill()
    assert reload.result() == digest_of(here, 1)
    results, last = streamed.result()
    assert {result.status for result in results} == {"ok"}
    assert last.provenance.weights == digest_of(here, 0)


def test_the_new_engine_killed_in_a_reload_leaves_the_old_weights(here: Shared, pool: ThreadPoolExecutor) -> None:
    old = here.server.engine()
    reload: Future[httpx2.Response] = pool.submit(
        here.order, "/admin/reload", {"models": {"prm": str(here.checkpoints[1])}}
    )
    until(lambda: (new := find_engine(here.server.process.pid)) is not None and new.pid != old.pid, "a new engine")
    here.server.engine().kill()
    refused(reload.result(), 503, "unavailable")
    assert here.score(group("old weights")).provenance.weights == digest_of(here, 0)


# Who may


@pytest.mark.parametrize("path", ORDERS)
def test_only_the_admin_key_gives_orders(here: Shared, path: str, request: pytest.FixtureRequest) -> None:
    for key in ("caller", "admin2", "Admin"):
        refused(here.order(path, key=key), 401, "invalid_key")
    with shared(request.session).client(headers={"Authorization": "Bearer admin"}) as client:
        message = refused(client.post(path), 403, "not_allowed")
    assert "--admin-key" in message
    assert here.ready().status_code == 200


def test_the_admin_key_opens_the_other_routes_too(here: Shared) -> None:
    with here.client("admin") as client:
        assert client.get("/models").status_code == 200
    with here.client("nobody") as client:
        assert ErrorResponse.model_validate_json(client.get("/models").content).error.code == "invalid_key"


@pytest.mark.slow
def test_the_loop_of_a_trainer_whose_calls_hold_every_permit(here: Shared, pool: ThreadPoolExecutor) -> None:
    with Client(here.server.url, api_key="admin", max_concurrency=1, retry=Retry(max_retries=0)) as client:
        before = client.score_steps("Loop?", [], ["a\n\nb"])
        assert client.sleep().status == "asleep"
        waits = pool.submit(client.score_steps, "Loop?", [], ["a\n\nb"])
        here.server.await_waiting(1)
        assert client.wake().status == "awake"
        assert same_scores(waits.result(), before)
        reloaded = client.reload({"prm": here.checkpoints[1]})
        assert reloaded.models[0].provenance.weights == digest_of(here, 1)
        assert client.score_steps("Loop?", [], ["a\n\nb"], weights=digest_of(here, 1)).provenance == (
            reloaded.models[0].provenance
        )


def test_no_wake_is_needed_to_stop(checkpoints: tuple[Path, Path]) -> None:
    with running("--model", f"prm={DEMO}", "--admin-key", "admin") as server:
        obeyed(Shared(server, checkpoints).order("/admin/sleep"), "asleep")
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 10
