"""The command against the real server, also with several generators."""

import json
import subprocess
import sys

import pytest

from tests.service.running import ROOT, shared


def load(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", *options]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_every_planned_group_is_scored_and_counted_once(request: pytest.FixtureRequest, processes: str) -> None:
    server = shared(request.session)
    groups = "steelyard_groups_total{model=visualprm,priority=online}"
    before = server.metric(groups)
    rates = ["--rate=0", "--online-rate=15", "--bursts=10x1", "--seconds=2", "--pictures=0.5", "--seed=4"]
    done = load("--url", server.url, *rates, "--processes", processes)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    train, online = found["series"]["train"], found["series"]["online"]
    assert train["planned"] == train["statuses"]["200"] == train["accepted_s"]["count"] == 20
    assert train["candidates"] == {"ok": 80}
    assert online["planned"] == online["statuses"]["200"] > 10
    assert online["accepted_s"]["p99"] > 0
    assert server.metric(groups) - before == online["planned"]
    assert "p99" in done.stderr


def test_nothing_to_send_is_said() -> None:
    done = load("--url=http://127.0.0.1:1")
    assert done.returncode == 2
    assert "nothing to send" in done.stderr


def test_a_server_that_is_not_there_is_said() -> None:
    done = load("--url=http://127.0.0.1:1", "--rate=1")
    assert done.returncode == 1
    assert done.stderr.startswith("loadtest: ")
