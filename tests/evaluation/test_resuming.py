"""Runs that end early or go wrong: nothing scored is lost, nothing unscored counts."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.journal import open_journal
from evaluation.process_bench import main
from tests.client.scripted import forwards, hangs_up, scripted
from tests.evaluation.made_up import Line, finish, own_servers, records, solutions, table, write_lines
from tests.service.running import DEMO, ROOT, Running, shared, until


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    return solutions(tmp_path)


def measure(tmp_path: Path, lines: list[Line], *target: object) -> int:
    data = write_lines(tmp_path / "test.jsonl", lines)
    return finish(main, "--data", data, "--out", tmp_path / "out", "--threshold", 0.4, *target)


def journal(tmp_path: Path) -> bytes:
    return (tmp_path / "out" / "records.jsonl").read_bytes()


def test_a_run_whose_server_dies_goes_on_where_it_stopped(
    server: Running, tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]
) -> None:
    # One request for the models, one for the picture, ten for groups; then every connection is closed.
    with scripted(*[forwards(server.url)] * 12, hangs_up) as dying:
        assert measure(tmp_path, lines, "--url", dying.url, "--in-flight", 1, "--retry-for", 0.2) == 1
    kept = journal(tmp_path)
    assert kept.count(b"\n") == 10
    assert "10 of 30 groups are kept" in (error := capsys.readouterr().err)
    assert "the same command goes on from there" in error
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert journal(tmp_path).startswith(kept)
    assert sorted(int(record["id"]) for record in records(tmp_path / "out")) == list(range(30))


def test_a_finished_run_scores_nothing_again_and_measures_the_same(
    server: Running, tmp_path: Path, lines: list[Line]
) -> None:
    assert measure(tmp_path, lines, "--url", server.url) == 0
    before, report = journal(tmp_path), (tmp_path / "out" / "report.json").read_bytes()
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert journal(tmp_path) == before
    assert (tmp_path / "out" / "report.json").read_bytes() == report


def test_results_of_other_weights_inputs_or_settings_do_not_mix(
    server: Running, tmp_path: Path, lines: list[Line]
) -> None:
    assert measure(tmp_path, lines, "--url", server.url) == 0
    path = tmp_path / "out" / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"weights":"sha256:', b'"weights":"sha256:0'))
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert journal(tmp_path).count(b"\n") == 60
    lines[3]["response"]["steps"][0] += " And more."
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert journal(tmp_path).count(b"\n") == 61
    assert measure(tmp_path, lines, "--url", server.url, "--control-tokens", "literal") == 0
    assert journal(tmp_path).count(b"\n") == 91


def test_a_torn_last_line_is_scored_again(server: Running, tmp_path: Path, lines: list[Line]) -> None:
    assert measure(tmp_path, lines, "--url", server.url) == 0
    whole = journal(tmp_path)
    (tmp_path / "out" / "records.jsonl").write_bytes(whole[:-20])
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert sorted(journal(tmp_path).splitlines()) == sorted(whole.splitlines())


def test_only_what_may_fare_better_is_tried_again(server: Running, tmp_path: Path, lines: list[Line]) -> None:
    lines[0]["response"]["steps"][0] = "word " * 9000
    (tmp_path / "broken.png").write_text("no picture", encoding="utf-8")
    lines[2]["image"] = "broken.png"
    assert measure(tmp_path, lines, "--url", server.url) == 0
    path = tmp_path / "out" / "records.jsonl"
    found = records(tmp_path / "out")
    found[5]["results"] = [{"status": "expired", "retryable": True}]
    write_lines(path, found)
    assert measure(tmp_path, lines, "--url", server.url) == 0
    assert len(records(tmp_path / "out")) == 31
    assert records(tmp_path / "out")[30]["id"] == found[5]["id"]
    counts = {row["status"]: row["candidates"] for row in table(tmp_path / "out", "Without a score")}
    assert counts == {"too_long": 1, "unsupported_image": 1}
    assert table(tmp_path / "out", "Macro-F1")[-1]["solutions"] == 28


def test_two_runs_do_not_write_the_same_records(
    server: Running, tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]
) -> None:
    with open_journal(tmp_path / "out" / "records.jsonl"):
        assert measure(tmp_path, lines, "--url", server.url) == 1
    assert "another run is writing it" in capsys.readouterr().err


def test_records_that_are_none_are_named_and_kept(
    server: Running, tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "records.jsonl").write_text('{"other": 1}\n', encoding="utf-8")
    assert measure(tmp_path, lines, "--url", server.url) == 1
    assert "records.jsonl:1: not a line of this version" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_load_says_why_and_leaves_no_server(
    tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({}), encoding="utf-8")
    assert measure(tmp_path, lines, "--checkpoint", broken) == 1
    error = capsys.readouterr().err
    assert "the checkpoint's server did not start" in error
    assert error.count("\n") == 1
    assert not own_servers()


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_checkpoints_server_ends_with_its_run_however_that_ends(tmp_path: Path, end: signal.Signals) -> None:
    data, out = write_lines(tmp_path / "test.jsonl", solutions(tmp_path, 3000)), tmp_path / "out"
    options = ("--checkpoint", str(DEMO), "--threads", "1", "--data", str(data), "--out", str(out))
    command = [sys.executable, "-m", "evaluation.process_bench", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as run:
        path = out / "records.jsonl"
        until(lambda: path.exists() and path.read_bytes().count(b"\n") > 50, "fifty records")
        assert own_servers()
        run.send_signal(end)
        error = run.communicate()[1]
    assert run.returncode == (-9 if end is signal.SIGKILL else 130)
    assert "Traceback" not in error
    until(lambda: not own_servers(), "the server's end")
