"""The real server for tests: `python -m service` and its engine process, on a free port."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from steelyard.schema import CandidateScore, ErrorResponse, ScoreOutcomesResponse, ScoreStepsResponse, StepScores

ROOT = Path(__file__).parents[2]
# Tiny checkpoints of random weights in the released layouts.
DEMO = ROOT / "tests" / "checkpoints" / "visualprm"
IXC_DEMO = ROOT / "tests" / "checkpoints" / "ixc_reward"
PATIENCE_S = 60.0
_ENGINE = "service.engine_process"
Found = TypeVar("Found")
_SHARED = pytest.StashKey["Running"]()


@dataclass(frozen=True, slots=True)
class Running:
    """A server process; `log` is its stderr and its engine's."""

    process: subprocess.Popen[str]
    url: str
    log: IO[str]

    def client(self, **options: Any) -> httpx2.Client:  # noqa: ANN401
        return httpx2.Client(base_url=self.url, timeout=PATIENCE_S, **options)

    def engine(self) -> psutil.Process:
        """The engine process, once there is one."""
        return until(lambda: find_engine(self.process.pid), "an engine process")

    @contextmanager
    def stopped_engine(self) -> Iterator[psutil.Process]:
        """The engine neither reads nor scores while this is open, and does not know it."""
        engine = self.engine()
        engine.suspend()
        try:
            yield engine
        finally:
            with suppress(psutil.NoSuchProcess):
                engine.resume()

    def come_to_late(self, ask: Callable[[], Found], groups: int = 1) -> Found:
        """What `ask` returns when the engine first reads its groups after their deadline of a millisecond."""
        with ThreadPoolExecutor(1) as pool:
            with self.stopped_engine():
                asked = pool.submit(ask)
                self.await_waiting(groups)
                time.sleep(0.01)
            return asked.result()

    def logged(self) -> str:
        return Path(self.log.name).read_text(encoding="utf-8")

    def samples(self) -> dict[str, float]:
        """Every sample of /metrics by `name` or `name{label=value,…}`."""
        return read_samples(httpx2.get(self.url + "/metrics", timeout=PATIENCE_S).text)

    def metric(self, name: str) -> float:
        return self.samples().get(name, 0.0)

    def await_waiting(self, groups: int) -> None:
        """Until exactly so many groups are accepted and not yet answered."""
        until(lambda: self.metric("steelyard_waiting_groups") == groups, f"{groups} waiting groups")

    def await_restarts(self, count: float) -> None:
        until(lambda: self.metric("steelyard_engine_restarts") == count, f"{count:.0f} restarts")

    def await_restart(self, before: psutil.Process) -> None:
        """Until another engine serves."""
        until(lambda: (engine := find_engine(self.process.pid)) is not None and engine.pid != before.pid, "an engine")
        until(lambda: httpx2.get(self.url + "/health/ready", timeout=PATIENCE_S).status_code == 200, "readiness")


def launch(*options: str, log: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The server process, with the random checkpoints unless models are named; one engine thread: tests share cores."""
    models = () if "--model" in options else ("--model", f"visualprm={DEMO}", "--model", f"ixc_reward={IXC_DEMO}")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", "--threads", "1", *models, *options],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )


@contextmanager
def starting(*options: str) -> Iterator[Running]:
    """A server that listens and may still be loading; stopped in the end whatever became of it."""
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", suffix=".log") as log:
        process = launch(*options, log=log)
        try:
            yield Running(process, until(lambda: _address(process), "a listening socket"), log)
        finally:
            stop(process)


@contextmanager
def running(*options: str) -> Iterator[Running]:
    """A server that has said that it is ready."""
    with starting(*options) as server:
        await_ready(server)
        yield server


def await_ready(server: Running) -> None:
    assert server.process.stdout is not None
    for line in server.process.stdout:
        if "is ready" in line:
            assert server.url in line
            return
    raise AssertionError(f"the server ended while it was starting: {server.logged()}")


def shared(session: pytest.Session) -> Running:
    """The server that most tests of a session use; the session's end stops it."""
    if _SHARED not in session.stash:
        manager = running()
        session.stash[_SHARED] = manager.__enter__()
        session.addfinalizer(lambda: manager.__exit__(None, None, None))
    return session.stash[_SHARED]


def stop(process: subprocess.Popen[str]) -> None:
    """End a server and its engine, stopped ones too."""
    engine = find_engine(process.pid)
    for victim in (process, engine):
        if victim is not None:
            _kill(victim.pid)
    process.wait(PATIENCE_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def find_engine(gateway: int) -> psutil.Process | None:
    try:
        children = psutil.Process(gateway).children()
        return next((child for child in children if _ENGINE in child.cmdline()), None)
    except psutil.Error:
        return None


def is_gone(process: psutil.Process) -> bool:
    """Ended; an orphan may wait for whoever adopted it to notice."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def until(look: Callable[[], Found | None], what: str, patience_s: float = PATIENCE_S) -> Found:
    """What `look` finds, as soon as it is something true."""
    give_up = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < give_up, f"waited {patience_s:.0f} s in vain for {what}"
        time.sleep(0.01)
    return found


def read_samples(exposition: str) -> dict[str, float]:
    return {
        sample.name + _labels(sample.labels): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def scored(response: httpx2.Response) -> ScoreStepsResponse:
    """The answer, which must be a 200."""
    assert response.status_code == 200, response.text[:500]
    return ScoreStepsResponse.model_validate_json(response.content)


def refused(response: httpx2.Response, status: int, code: str) -> str:
    """The message of a refusal, which must be just this one."""
    answer = ErrorResponse.model_validate_json(response.content)
    assert (response.status_code, answer.error.code) == (status, code), response.text[:500]
    assert response.headers["x-request-id"] == answer.error.request_id
    return answer.error.message


def same_scores(
    one: ScoreStepsResponse | ScoreOutcomesResponse, other: ScoreStepsResponse | ScoreOutcomesResponse
) -> bool:
    """Equal within the tolerance of float32: what else was in the batch may move the last bits."""
    pairs = list(zip(one.results, other.results, strict=True))
    return all(a.status == b.status for a, b in pairs) and all(_close(_numbers(a), _numbers(b)) for a, b in pairs)


def _numbers(result: CandidateScore) -> Sequence[float]:
    if isinstance(result, StepScores):
        return result.step_scores or []
    return [] if result.score is None else [result.score]


def _close(ones: Sequence[float], others: Sequence[float]) -> bool:
    return len(ones) == len(others) and all(
        abs(a - b) <= 1e-5 * (1 + abs(a)) for a, b in zip(ones, others, strict=True)
    )


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={value}" for name, value in sorted(labels.items())) + "}" if labels else ""


def _address(process: subprocess.Popen[str]) -> str | None:
    assert process.poll() is None, "the server ended before it listened"
    sockets = psutil.Process(process.pid).net_connections("inet")
    address = next((found.laddr for found in sockets if found.status == psutil.CONN_LISTEN), None)
    return f"http://{address.ip}:{address.port}" if address else None


def _kill(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()
