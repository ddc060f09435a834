"""Every mistake in the data is one line that names file, line and field, before anything is scored."""

import json
from pathlib import Path

import pytest

from evaluation import best_of_n, pairwise, process_bench
from evaluation.command import Work
from tests.evaluation.made_up import Line, finish, questions, solutions

NOWHERE = "http://127.0.0.1:9"


def complaint(work: Work, folder: Path, content: str | bytes, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    data = folder / "data.jsonl"
    data.write_bytes(content.encode() if isinstance(content, str) else content)
    name = "--candidates" if work is best_of_n.main else "--data"
    assert finish(work, name, data, "--url", NOWHERE, "--out", folder / "out", "--retry-for", 0, *more) == 1
    assert not (folder / "out").exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.replace(str(folder), "").strip()


def solution(folder: Path, **changes: object) -> str:
    return json.dumps(solutions(folder, 1)[0] | changes)


def test_an_empty_file_holds_no_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(process_bench.main, tmp_path, "\n\n", capsys) == "evaluation: /data.jsonl: it holds no items"


def test_a_malformed_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = complaint(process_bench.main, tmp_path, solution(tmp_path) + "\n{oops\n", capsys)
    assert "/data.jsonl:2: not JSON at column 2" in error
    assert "/data.jsonl:1: not JSON" in complaint(process_bench.main, tmp_path, b"\xff\xfe", capsys)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "nowhere.png"}, "/data.jsonl:1: image: there is no picture /nowhere.png"),
        ({"question": None}, "/data.jsonl:1: question: "),
        ({"response": {"steps": ["a", "b"], "process_correctness": [1]}}, "response: 2 steps have 1 labels"),
        ({"response": {"steps": ["a"], "process_correctness": [2]}}, "response.process_correctness.0: "),
        ({"response": {"steps": [], "process_correctness": []}}, "response: 0 steps have 0 labels"),
    ],
)
def test_a_mistake_in_a_field_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Line, said: str
) -> None:
    assert said in complaint(process_bench.main, tmp_path, solution(tmp_path, **changes), capsys)


def test_an_id_may_not_stand_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = json.dumps(questions(tmp_path, 1)[0])
    error = complaint(best_of_n.main, tmp_path, f"{line}\n{line}\n", capsys)
    assert "/data.jsonl:2: id: 'q0' is also the id of /data.jsonl:1" in error


def test_a_verdict_must_be_true_or_false(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = questions(tmp_path, 1)[0]
    line["candidates"][1]["correct"] = "yes"
    assert "candidates.1.correct: " in complaint(best_of_n.main, tmp_path, json.dumps(line), capsys)


@pytest.mark.parametrize(
    ("format", "item", "said"),
    [
        ("rewardbench", {"prompt": "", "chosen": "", "rejected": "", "subset": "other"}, "subset: 'other' is none of"),
        ("rm_bench", {"prompt": "", "chosen": ["a"], "rejected": ["a"] * 3, "domain": "chat"}, "chosen: "),
        ("rm_bench", {"prompt": "", "chosen": ["a"] * 3, "rejected": ["a"] * 3, "domain": "x"}, "domain: 'x' is none"),
        ("vl_rewardbench", {"query": "", "response": ["a"], "human_ranking": [0, 0], "image_path": ""}, "response: "),
    ],
)
def test_an_item_of_another_benchmark_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, item: Line, said: str
) -> None:
    assert said in complaint(pairwise.main, tmp_path, json.dumps(item), capsys, "--format", format)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert NOWHERE in complaint(process_bench.main, tmp_path, solution(tmp_path), capsys)


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(solution(tmp_path), encoding="utf-8")
    arguments = ("--data", data, "--out", tmp_path / "out", "--checkpoint", tmp_path / "none")
    assert finish(process_bench.main, *arguments) == 1
    assert "neither a folder nor of the form ORG/REPO@REVISION" in capsys.readouterr().err
