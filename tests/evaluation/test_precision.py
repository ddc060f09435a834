"""float32 against bfloat16 of one checkpoint, which gets a server of its own."""

from pathlib import Path

import pytest

from evaluation.best_of_n import main as best_of_n
from evaluation.precision import main
from tests.evaluation.made_up import finish, own_servers, questions, records, table, write_lines
from tests.service.running import DEMO, Running, shared


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    return write_lines(folder / "candidates.jsonl", questions(folder))


@pytest.fixture(scope="module")
def compared(server: Running, data: Path) -> Path:
    """A server's float32 against a checkpoint's bfloat16."""
    out = data.parent / "out"
    sides = ("--a", server.url, "--model", "visualprm", "--b", DEMO, "--b-dtype", "bfloat16", "--threads", 1)
    assert finish(main, *sides, "--candidates", data, "--out", out) == 0
    return out


def test_bfloat16_moves_scores_a_little(compared: Path) -> None:
    assert {record["dtype"] for record in records(compared / "a")} == {"float32"}
    assert {record["dtype"] for record in records(compared / "b")} == {"bfloat16"}
    figures = {row["figure"]: float(row["value"]) for row in table(compared, "Agreement")}
    assert 0 < figures["median difference of a candidate's score"] < 0.05
    assert 0.5 < figures["Kendall's tau-b, mean over groups"] < 1


def test_both_accuracies_and_their_difference_are_reported(compared: Path) -> None:
    a, b, change = table(compared, "Accuracy")
    assert change["accuracy"] == pytest.approx(b["accuracy"] - a["accuracy"])
    assert change["low"] <= change["accuracy"] <= change["high"]


def test_the_checkpoints_server_is_gone_afterwards(compared: Path) -> None:
    assert not own_servers()


def test_earlier_runs_are_compared_without_scoring(compared: Path, server: Running, data: Path) -> None:
    run = data.parent / "run"
    assert finish(best_of_n, "--candidates", data, "--url", server.url, "--out", run) == 0
    out = data.parent / "again"
    assert finish(main, "--a", run, "--model", "visualprm", "--b", compared / "a", "--out", out) == 0
    figures = {row["figure"]: float(row["value"]) for row in table(out, "Agreement")}
    assert figures["Kendall's tau-b, mean over groups"] > 0.99
    assert figures["same best candidate, share of groups"] == 1


def test_several_models_records_are_not_taken_for_one(
    compared: Path, server: Running, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = data.parent / "both"
    assert finish(best_of_n, "--candidates", data, "--url", server.url, "--out", run) == 0
    assert finish(main, "--a", run, "--b", compared / "a", "--out", data.parent / "none") == 1
    assert "one model's records are needed (--model)" in capsys.readouterr().err
