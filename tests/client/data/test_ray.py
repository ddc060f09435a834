"""`--engine ray` by a Python that has Ray, which RAY_PYTHON names; `make check-ray` makes one and runs this."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.data.running import Ended, Served, digest_server, filtered, records, start, write_lines
from tests.service.running import until

PYTHON = os.environ.get("RAY_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON, reason="RAY_PYTHON names no Python that has Ray"),
]
_PATIENCE_S = 300.0
# Three ranges of spans.
_RECORDS = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with digest_server() as served:
        yield served


@pytest.fixture(scope="module")
def url(server: Served) -> str:
    return server.url


def by_ray(url: str, *arguments: str | Path) -> Ended:
    process = start(url, *arguments, "--engine", "ray", "--workers", "2", python=PYTHON)
    out, err = process.communicate(timeout=_PATIENCE_S)
    return Ended(process.returncode, out, err)


def test_the_output_is_that_of_a_local_run(url: str, tmp_path: Path) -> None:
    rows = records(_RECORDS, together=8)
    # Copies that another worker scores, and records that are skipped.
    data = write_lines(tmp_path / "data.jsonl", [*rows, *rows[:200], "no JSON", {"question": 3, "response": "x"}])
    ended = by_ray(url, data, tmp_path / "ray.jsonl", "--skip-bad", "--top", "2")
    assert ended.code == 3, ended.err
    assert filtered(url, data, tmp_path / "local.jsonl", "--skip-bad", "--top", "2").code == 3
    for ending in ("", ".rejects.jsonl"):
        local, ray = (tmp_path / f"{name}.jsonl{ending}" for name in ("local", "ray"))
        assert ray.read_bytes() == local.read_bytes()


def test_a_bad_record_ends_the_run_after_what_stands_before_it(server: Served, url: str, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "data.jsonl", [*records(5000, together=8), "no JSON"])
    ended = by_ray(url, data, tmp_path / "out.jsonl")
    assert (ended.code, "line 5001 is not JSON" in ended.err) == (1, True), ended.err
    before = server.groups()
    assert filtered(url, data, tmp_path / "out.jsonl", "--resume", "--skip-bad").code == 3
    # The last range again, and nothing before it.
    assert server.groups() - before < 150


def test_a_killed_run_goes_on(url: str, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "data.jsonl", records(_RECORDS, together=8))
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal-wal"
    process = start(url, data, out, "--engine", "ray", python=PYTHON)
    # Spans have been kept.
    until(lambda: journal.exists() and journal.stat().st_size > 300_000, "a journal that grows", _PATIENCE_S)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_PATIENCE_S)
    ended = by_ray(url, data, out, "--resume")
    assert ended.code == 0, ended.err
    assert filtered(url, data, tmp_path / "local.jsonl").code == 0
    assert out.read_bytes() == (tmp_path / "local.jsonl").read_bytes()
