"""The compose project without containers: its commands, run from the image's files, with its Redis."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.deploy.files import ROOT, compose
from tests.deploy.image import TEXT, lay_out, variables
from tests.deploy.project_redis import project_redis
from tests.service.running import DEMO, PATIENCE_S, until


@pytest.mark.timeout(300)
def test_gateway_and_worker_start_score_are_healthy_and_stop(tmp_path: Path) -> None:
    app = lay_out(TEXT, tmp_path / "app")
    with project_redis(tmp_path), ExitStack() as running:
        assert _check_worker(app, tmp_path) != 0
        worker = running.enter_context(_started(app, "worker", tmp_path))
        gateway = running.enter_context(_started(app, "gateway", tmp_path))
        until(lambda: _check_worker(app, tmp_path) == 0, "a healthy worker")
        url = until(lambda: _url(gateway), "a listening gateway")
        (path,) = re.findall(r"http://127\.0\.0\.1:8000(/[a-z/]+)", TEXT)
        until(lambda: httpx2.get(url + path, timeout=PATIENCE_S).status_code == 200, "a healthy gateway")
        group = json.loads((ROOT / "examples" / "group.json").read_text("utf-8"))
        answer = httpx2.post(url + "/score_steps", json=group, timeout=PATIENCE_S)
        assert [result["status"] for result in answer.json()["results"]] == ["ok"] * len(group["candidates"])
        for process in (gateway, worker):
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0


@contextmanager
def _started(app: Path, name: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service's process as compose starts it, but for the port and the addresses that only containers have."""
    service = compose()["services"][name]
    entrypoint = service.get("entrypoint") or json.loads(re.findall(r"^ENTRYPOINT (.*)$", TEXT, re.MULTILINE)[0])
    command = [word.replace("9090", "0") for word in [*entrypoint, *service.get("command", [])]]
    process = subprocess.Popen(_runnable(command), cwd=app, env=_environment(app, name, folder))
    try:
        yield process
    finally:
        for victim in (process, *psutil.Process(process.pid).children()) if process.poll() is None else ():
            victim.kill()
        process.wait(PATIENCE_S)


def _check_worker(app: Path, folder: Path) -> int:
    _, *command = compose()["services"]["worker"]["healthcheck"]["test"]
    done = subprocess.run(
        _runnable(command), cwd=app, env=_environment(app, "worker", folder), stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode


def _environment(app: Path, name: str, folder: Path) -> dict[str, str]:
    given = {variable: value for variable, value in compose()["services"][name]["environment"].items() if value}
    given["STEELYARD_QUEUE"] = given["STEELYARD_QUEUE"].replace("redis://redis:6379/0", f"unix://{folder / 'redis'}")
    own = folder / f"{name}-tmp"
    own.mkdir(exist_ok=True)
    tiny = {"STEELYARD_MODEL": f"visualprm={DEMO}", "STEELYARD_THREADS": "1", "STEELYARD_PORT": "0"}
    return variables(app) | given | tiny | {"TMPDIR": str(own)}


def _runnable(command: list[str]) -> list[str]:
    return [sys.executable if word == "python" else word for word in command]


def _url(gateway: subprocess.Popen[bytes]) -> str | None:
    assert gateway.poll() is None, "the gateway ended before it listened"
    sockets = psutil.Process(gateway.pid).net_connections("inet")
    port = next((found.laddr.port for found in sockets if found.status == psutil.CONN_LISTEN), None)
    return f"http://127.0.0.1:{port}" if port else None
