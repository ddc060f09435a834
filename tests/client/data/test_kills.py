"""A run that is killed at any moment goes on, and its output is that of a run which was not."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.data.journal import Journal
from tests.client.data.running import digest_server, filtered, read_lines, records, start, write_lines
from tests.client.scripted import Scripted, forwards, scripted
from tests.service.running import PATIENCE_S, until

_RECORDS = 3000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with digest_server() as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    rows = records(_RECORDS, together=8)
    # A copy far from its first is not scored again, whenever the run is killed.
    rows += [row | {"id": -1} for row in rows[:100]]
    return write_lines(folder / "data.jsonl", rows)


@pytest.fixture(scope="module")
def whole(url: str, folder: Path, data: Path) -> bytes:
    ended = filtered(url, data, folder / "whole.jsonl", "--min-score", "0.5")
    assert ended.code == 0, ended.err
    return (folder / "whole.jsonl").read_bytes()


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL


def calls(proxy: Scripted) -> int:
    return sum(seen.path == "/score_steps" for seen in proxy.seen)


def test_killed_three_times_while_it_scores(url: str, data: Path, folder: Path, whole: bytes) -> None:
    out = folder / "killed.jsonl"
    begun = []
    with scripted(forwards(url)) as proxy:
        for most in (100, 200, 300):
            process = start(proxy.url, data, out, "--min-score", "0.5", "--resume")
            until(lambda most=most: calls(proxy) >= most, f"{most} calls")  # type: ignore[misc]
            kill(process)
            assert not out.exists()
            with Journal(out.with_name("killed.jsonl.journal")) as journal:
                begun.append(journal.database.execute("SELECT next FROM run").fetchone()[0])
    assert begun == sorted(begun)
    assert begun[-1] > 0
    ended = filtered(url, data, out, "--min-score", "0.5", "--resume")
    assert (ended.code, out.read_bytes() == whole) == (0, True)
    assert not out.with_name("killed.jsonl.journal").exists()


def test_killed_while_it_writes(url: str, data: Path, folder: Path, whole: bytes) -> None:
    out = folder / "written.jsonl"
    draft = out.with_name("written.jsonl.new")
    process = start(url, data, out, "--min-score", "0.5")
    until(draft.exists, "a draft of the output")
    kill(process)
    ended = filtered(url, data, out, "--min-score", "0.5", "--resume")
    assert (ended.code, out.read_bytes() == whole, draft.exists()) == (0, True, False)


def test_what_was_scored_is_not_sent_again(url: str, data: Path, folder: Path) -> None:
    out = folder / "again.jsonl"
    with scripted(forwards(url)) as proxy:
        process = start(proxy.url, data, out)
        until(lambda: calls(proxy) >= 300, "300 calls")
        kill(process)
        assert filtered(proxy.url, data, out, "--resume").code == 0
        # 375 prompts; what was under way when it was killed is at most eight spans of 256 records.
        assert calls(proxy) <= 375 + 8 * 256 // 8
    assert len(read_lines(out)) == _RECORDS + 100


def test_a_run_that_is_over_is_not_made_again(data: Path, folder: Path, url: str, whole: bytes) -> None:
    with scripted(forwards(url)) as proxy:
        ended = filtered(proxy.url, data, folder / "whole.jsonl", "--min-score", "0.5", "--resume")
        assert (ended.code, calls(proxy)) == (0, 0)
    assert (folder / "whole.jsonl").read_bytes() == whole


def test_two_runs_do_not_write_one_output(url: str, data: Path, folder: Path) -> None:
    out = folder / "twice.jsonl"
    with scripted(forwards(url)) as proxy:
        first = start(proxy.url, data, out)
        until(lambda: calls(proxy) >= 10, "10 calls")
        second = filtered(url, data, out, "--resume")
        assert (second.code, "another run is writing it" in second.err) == (1, True)
        kill(first)


def test_changed_data_is_not_resumed(url: str, folder: Path) -> None:
    data, out = write_lines(folder / "change.jsonl", records(2000, together=1)), folder / "changed.jsonl"
    with scripted(forwards(url)) as proxy:
        process = start(proxy.url, data, out)
        until(lambda: calls(proxy) >= 10, "10 calls")
        kill(process)
    data.write_text(data.read_text().replace("It is 1999.", "It is 1998."))
    ended = filtered(url, data, out, "--resume")
    assert (ended.code, "cannot resume: input was" in ended.err) == (1, True)
    ended = filtered(url, data, out, "--resume", "--max-tiles", "3")
    assert (ended.code, "cannot resume" in ended.err) == (1, True)
    assert "there already; --resume goes on, --overwrite starts anew" in filtered(url, data, out).err
    assert filtered(url, data, out, "--overwrite").code == 0
    assert "there already" in filtered(url, data, out).err
    assert len(read_lines(out)) == 2000
