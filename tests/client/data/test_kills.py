"""A run that is killed at any moment goes on, and its output is that of a run which was not."""

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.data.running import Served, digest_server, filtered, read_lines, records, start, write_lines
from tests.service.running import PATIENCE_S, until

_RECORDS = 6000
_TOGETHER = 8


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with digest_server() as served:
        yield served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    rows = records(_RECORDS, _TOGETHER)
    # A copy far from its first is not scored again, whenever the run is killed.
    return write_lines(folder / "data.jsonl", rows + [row | {"id": -1} for row in rows[:100]])


@pytest.fixture(scope="module")
def whole(server: Served, folder: Path, data: Path) -> bytes:
    before = server.groups()
    assert filtered(server.url, data, folder / "whole.jsonl", "--min-score", "0.5").code == 0
    assert server.groups() - before == _RECORDS // _TOGETHER
    return (folder / "whole.jsonl").read_bytes()


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL


def killed_after(server: Served, calls: int, data: Path, out: Path, *options: str) -> None:
    """A run that the server has been given so many groups by."""
    before = server.groups()
    process = start(server.url, data, out, *options)
    until(lambda: server.groups() - before >= calls, f"{calls} calls")
    kill(process)


def kept(out: Path, scratch: Path) -> int:
    """How many records a run's journal holds, read from a copy: a run under way locks its own."""
    journal, copy = out.with_name(out.name + ".journal"), scratch / "copy.journal"
    for ending in ("", "-wal"):
        if journal.with_name(journal.name + ending).exists():
            shutil.copyfile(journal.with_name(journal.name + ending), copy.with_name(copy.name + ending))
    try:
        with sqlite3.connect(copy) as database:
            return int(database.execute("SELECT next FROM run").fetchone()[0])
    except (sqlite3.DatabaseError, TypeError):
        return 0  # not written yet, or copied in the middle of a write
    finally:
        database.close()
        for each in scratch.iterdir():
            each.unlink()


def test_killed_three_times_while_it_scores(
    server: Served, data: Path, folder: Path, tmp_path: Path, whole: bytes
) -> None:
    out = folder / "killed.jsonl"
    before, begun = server.groups(), [0]
    for _ in range(3):
        process = start(server.url, data, out, "--min-score", "0.5", "--resume")
        until(lambda: kept(out, tmp_path) > begun[-1], "a span that is kept")
        kill(process)
        assert not out.exists()
        begun.append(kept(out, tmp_path))
    assert 0 < begun[1] < begun[2] < begun[3] < _RECORDS
    assert filtered(server.url, data, out, "--min-score", "0.5", "--resume").code == 0
    assert out.read_bytes() == whole
    assert not out.with_name("killed.jsonl.journal").exists()
    # What was under way at a kill is sent again: at most the spans that are.
    assert server.groups() - before <= _RECORDS // _TOGETHER + 3 * 8 * 256 // _TOGETHER


def test_killed_while_it_writes(server: Served, data: Path, folder: Path, whole: bytes) -> None:
    out = folder / "written.jsonl"
    draft = out.with_name("written.jsonl.new")
    process = start(server.url, data, out, "--min-score", "0.5")
    until(lambda: draft.exists() or out.exists(), "a draft of the output")
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert filtered(server.url, data, out, "--min-score", "0.5", "--resume").code == 0
    assert (out.read_bytes() == whole, draft.exists()) == (True, False)


def test_a_run_that_is_over_is_not_made_again(server: Served, data: Path, folder: Path, whole: bytes) -> None:
    before = server.groups()
    assert filtered(server.url, data, folder / "whole.jsonl", "--min-score", "0.5", "--resume").code == 0
    assert (folder / "whole.jsonl").read_bytes() == whole
    assert server.groups() == before


def test_what_a_finished_run_kept_is_not_taken_for_another_choice(
    server: Served, data: Path, folder: Path, whole: bytes
) -> None:
    ended = filtered(server.url, data, folder / "whole.jsonl", "--top", "2", "--resume")
    assert (ended.code, "of a run with another" in ended.err) == (1, True)
    assert (folder / "whole.jsonl").read_bytes() == whole


def test_the_output_never_replaces_the_input(server: Served, data: Path) -> None:
    before = data.read_bytes()
    ended = filtered(server.url, data, data, "--overwrite")
    assert (ended.code, "would replace the input" in ended.err, data.read_bytes() == before) == (1, True, True)


def test_two_runs_do_not_write_one_output(server: Served, data: Path, folder: Path) -> None:
    out, before = folder / "twice.jsonl", server.groups()
    first = start(server.url, data, out)
    until(lambda: server.groups() > before, "a call")
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second is refused
    second = filtered(server.url, data, out, "--resume")
    kill(first)
    assert (second.code, "another run is writing it" in second.err) == (1, True)


def test_changed_data_is_not_resumed(server: Served, folder: Path) -> None:
    url = server.url
    data, out = write_lines(folder / "change.jsonl", records(2000)), folder / "changed.jsonl"
    killed_after(server, 10, data, out)
    ended = filtered(url, data, out, "--resume", "--max-tiles", "3")
    assert (ended.code, "cannot resume: max_tiles was None and is 3" in ended.err) == (1, True)
    data.write_text(data.read_text().replace("It is 1999.", "It is 1998."))
    ended = filtered(url, data, out, "--resume")
    assert (ended.code, "cannot resume: input was" in ended.err) == (1, True)
    assert "there already; --resume goes on, --overwrite starts anew" in filtered(url, data, out).err
    assert filtered(url, data, out, "--overwrite").code == 0
    assert "there already" in filtered(url, data, out).err
    assert len(read_lines(out)) == 2000
