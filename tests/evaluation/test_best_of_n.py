"""Best-of-N over a real server with both kinds of models."""

import math
from pathlib import Path

import pytest

from evaluation.best_of_n import main
from tests.evaluation.made_up import Line, finish, questions, records, table, write_lines
from tests.service.running import Running, shared

AGGREGATES = {
    "mean": lambda steps: sum(steps) / len(steps),
    "min": min,
    "max": max,
    "product": math.prod,
    "last": lambda steps: steps[-1],
    "sum": sum,
}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    lines = questions(tmp_path_factory.mktemp("made_up"))
    # Right, but past every limit of length.
    lines[0]["candidates"][2] = {"steps": ["word " * 9000], "answer": "3", "correct": True}
    return lines


@pytest.fixture(scope="module")
def run(server: Running, lines: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("best_of_n")
    questions(folder)
    data = write_lines(folder / "candidates.jsonl", lines)
    assert finish(main, "--candidates", data, "--url", server.url, "--out", folder, "--policy", "InternVL2.5-8B") == 0
    return folder


def test_every_selector_is_chance_at_one_and_none_beats_the_oracle(run: Path) -> None:
    rows = {row["selector"]: row for row in table(run, "Accuracy by N")}
    assert len(rows) == 11
    for row in rows.values():
        assert row["1"] == pytest.approx(rows["random"]["1"])
        assert all(row[n] <= rows["oracle"][n] + 1e-9 for n in "1248")
        assert row["low"] <= row["8"] <= row["high"]


def test_choosing_among_all_equals_the_best_records_for_every_aggregate(run: Path, lines: list[Line]) -> None:
    rows = {row["selector"]: row for row in table(run, "Accuracy by N")}
    by_model = {
        model: {r["id"]: r["results"] for r in records(run) if r["model"] == model}
        for model in ("visualprm", "ixc_reward")
    }
    for name, aggregate in AGGREGATES.items():
        right = [chosen(line, by_model["visualprm"][line["id"]], aggregate) for line in lines]
        assert rows[f"process, {name}"]["8"] == pytest.approx(100 * sum(right) / len(right))
    right = [chosen(line, by_model["ixc_reward"][line["id"]], None) for line in lines]
    assert rows["outcome"]["8"] == pytest.approx(100 * sum(right) / len(right))


def chosen(line: Line, results: list[Line], aggregate: object) -> bool:
    scored = [
        (aggregate(result["step_scores"]) if callable(aggregate) else result["score"], candidate["correct"])
        for result, candidate in zip(results, line["candidates"], strict=True)
        if result["status"] == "ok"
    ]
    best = max(score for score, _ in scored)
    return [right for score, right in scored if score == best] == [True]


def test_a_candidate_without_a_score_is_left_out_and_counted(run: Path, lines: list[Line]) -> None:
    (row, _) = [row for name in ["Without a score"] for row in table(run, name)] * 2
    assert (row["status"], row["candidates"]) == ("too_long", 1)
    right = [[one["correct"] for one in line["candidates"]] for line in lines]
    del right[0][2]
    expected = 100 * sum(sum(pool) / len(pool) for pool in right) / len(right)
    assert table(run, "Accuracy by N")[0]["8"] == pytest.approx(expected)


def test_the_report_names_models_command_and_picture(run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "weights sha256:" in text
    assert "python -m evaluation.best_of_n --candidates" in text
    assert (run / "by_n.svg").read_text(encoding="utf-8").startswith("<svg")


def test_every_form_has_its_own_row(run: Path) -> None:
    assert [(row["form"], row["questions"]) for row in table(run, "By form")] == [("colour", 6), ("count", 6)]


def test_the_papers_overall_figure_is_only_held_against_all_its_benchmarks(server: Running, tmp_path: Path) -> None:
    lines = questions(tmp_path, 14)
    for index, line in enumerate(lines):
        line["form"] = ("MMMU", "MathVista", "MathVision", "MathVerse", "DynaMath", "WeMath", "LogicVista")[index % 7]
    arguments = ("--url", server.url, "--policy", "InternVL2.5-8B")
    for count, out in ((14, tmp_path / "all"), (6, tmp_path / "some")):
        data = write_lines(tmp_path / "candidates.jsonl", lines[:count])
        assert finish(main, "--candidates", data, *arguments, "--out", out) == 0
    rows = {(row["setting"], row["form"]): row for row in table(tmp_path / "all", "Against the paper")}
    assert rows["pass@1", "Overall"]["InternVL2.5-8B"] == 32.8
    assert rows["best of 8", "Overall"]["InternVL2.5-8B"] == 41.2
    assert rows["best of 8", "MathVerse"]["InternVL2.5-8B"] == 35.8
    assert "Overall" not in [row["form"] for row in table(tmp_path / "some", "Against the paper")]


def test_an_option_that_makes_no_sense_is_refused_before_anything_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--candidates", tmp_path / "none", "--url", "http://127.0.0.1:9", "--out", tmp_path)
    assert finish(main, *arguments, "--policy", "Another") == 1
    assert "--policy Another: the paper's are InternVL2.5-26B" in capsys.readouterr().err
    assert finish(main, *arguments, "--blend", 2) == 1
    assert "--blend must lie between 0 and 1" in capsys.readouterr().err
