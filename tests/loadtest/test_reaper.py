"""No server outlives its run, however the run ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.errors import LoadTestError
from loadtest.reaper import Reaper
from loadtest.server_process import ServerProcess
from tests.service.running import ROOT, is_gone, until

# A server with a child of its own, which says its number.
SERVER = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "engine"]).pid, flush=True)
time.sleep(600)
"""
RUN = f"""
import sys, time
from pathlib import Path
from loadtest.reaper import Reaper
from loadtest.server_process import ServerProcess
server = ServerProcess("server", [sys.executable, "-c", {SERVER!r}], Path(sys.argv[1]), Reaper())
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    found = Reaper()
    yield found
    found.close()


def server(folder: Path, reaper: Reaper) -> ServerProcess:
    return ServerProcess("server", [sys.executable, "-c", SERVER], folder, reaper)


def test_a_run_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        started = psutil.Process(int(run.stdout.readline()))
        (child,) = until(started.children, "the server's child")
        run.send_signal(signal.SIGKILL)
        run.wait()
        until(lambda: is_gone(started) and is_gone(child), "the end of the server and its child")


async def test_a_killed_servers_child_is_destroyed_with_it(tmp_path: Path, reaper: Reaper) -> None:
    found = server(tmp_path, reaper)
    found.start()
    child = psutil.Process(int(await found.says(r"^(\d+)$")))
    await found.kill()
    assert not is_gone(child)
    found.destroy()
    until(lambda: is_gone(child), "the end of the orphan")


async def test_a_server_is_started_again_and_its_words_are_its_own(tmp_path: Path, reaper: Reaper) -> None:
    found = server(tmp_path, reaper)
    found.start()
    first = await found.says(r"^(\d+)$")
    engine = found.engine()
    assert engine is not None
    assert engine.pid == int(first)
    await found.kill()
    assert found.engine() is None
    found.start()
    assert await found.says(r"^(\d+)$") != first
    found.destroy()


async def test_a_server_that_ends_before_it_is_ready_is_quoted(tmp_path: Path, reaper: Reaper) -> None:
    found = ServerProcess("server", [sys.executable, "-c", "print('no such model')"], tmp_path, reaper)
    found.start()
    with pytest.raises(LoadTestError, match="no such model"):
        await found.says("is ready: (.*)")
