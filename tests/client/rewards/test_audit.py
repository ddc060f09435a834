"""The reward-hacking test: nothing pays in the shipped strict recipes, every known exploit is found in upstream's."""

import json
from pathlib import Path

import pytest

from steelyard.cli import main
from steelyard.rewards import Specification, shipped
from steelyard.rewards.audit import Audit, AuditRecord, Findings
from steelyard.rewards.tags import Mode
from tests.golden import GOLDEN

CASES = json.loads((GOLDEN / "visual_rft" / "public.json").read_text(encoding="utf-8"))
KINDS = ("detection", "classification", "grounding")
KNOWN = {
    "detection": {
        "maths in prose", "maths after the answer", "boxed number", "confidence nan", "confidence -3", "confidence 0",
        "one far-off box of confidence 0", "far-off boxes of confidence 0", "far-off box of confidence -3",
        "far-off box of confidence NaN", "a hundred boxes",
    },
    "classification": {
        "empty answer", "underscore", "one letter", "all classes", "classes in the thought", "maths in prose",
    },
    "grounding": {
        "corners swapped", "all corners swapped", "far beyond the picture", "two boxes crosswise",
    },
}  # fmt: skip


def golden(kind: str, every: int = 1) -> list[dict[str, str]]:
    rows = [case["input"] for case in CASES if case["kind"] == kind][::every]
    return [{"kind": kind, "response": row["content"], "solution": row["solution"]} for row in rows]


def audited(specification: Specification, records: list[dict[str, str]]) -> Findings:
    classes = [row["solution"].removeprefix("<answer>").removesuffix("</answer>") for row in records]
    audit = Audit(specification, list(dict.fromkeys(classes)))
    for index, row in enumerate(records):
        audit.take(AuditRecord(f"record {index}", row["response"], row["solution"]))
    return audit.findings


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_pays_in_the_shipped_strict_recipes(kind: str) -> None:
    found = audited(shipped(kind), golden(kind))
    assert found.tried > 10 * found.records > 0
    assert [(trick.name, trick.best) for trick in found.profitable] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_known_exploit_is_found_in_upstream(kind: str) -> None:
    found = audited(shipped(kind, "upstream"), golden(kind, 2 if kind == "detection" else 1))
    assert {trick.name for trick in found.profitable} >= KNOWN[kind]
    assert found.disagreements > 0


def test_the_papers_confidence_pays_for_far_off_boxes_even_if_strict() -> None:
    found = audited(Specification.model_validate({"terms": "iou + confidence + format"}), golden("detection", 2))
    assert "far-off boxes of confidence 0" in {trick.name for trick in found.profitable}


@pytest.mark.parametrize(("mode", "pays"), [("strict", set[str]()), ("upstream", {"all letters", "empty answer"})])
def test_choices_are_audited(mode: Mode, pays: set[str]) -> None:
    rows = [{"response": f"<think>a</think><answer>{one}</answer>", "solution": "C"} for one in "ABCD"]
    assert {trick.name for trick in audited(shipped("multiple_choice", mode), rows).profitable} >= pays
    assert bool(audited(shipped("multiple_choice", mode), rows).profitable) == bool(pays)


@pytest.mark.parametrize(("mode", "pays"), [("strict", set[str]()), ("upstream", {"solution in the thought"})])
def test_mathematics_is_audited(mode: Mode, pays: set[str]) -> None:
    rows = [
        {"response": f"<think>a</think><answer>{one}</answer>", "solution": truth}
        for one, truth in (("12", "12"), ("$\\frac{3}{4}$", "$0.75$"), ("13", "$x^2$"))
    ]
    assert {trick.name for trick in audited(shipped("maths", mode), rows).profitable} >= pays
    assert bool(audited(shipped("maths", mode), rows).profitable) == bool(pays)


def test_a_trick_does_not_count_when_it_only_mends_the_format() -> None:
    record = AuditRecord("one", "<answer>tulip</answer>", "rose")
    audit = Audit(shipped("classification"), ["rose", "tulip"])
    audit.take(record)
    assert audit.findings.profitable == []


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_command_says_what_pays_and_exits_with_1(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "records.jsonl", golden("classification", 6) + golden("grounding", 6))
    assert main(["audit", "--records", records]) == 0
    clean, progress = capfd.readouterr()
    assert "tricks that pay: none" in clean
    assert "13 of 13 records" in progress or "records" in progress
    assert main(["audit", "--records", records, "--mode", "upstream"]) == 1
    table = capfd.readouterr().out
    assert "far beyond the picture" in table
    assert "from a wrong response" in table
    assert main(["audit", "--records", records, "--mode", "upstream", "--json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert {"empty answer", "corners swapped"} <= {trick["trick"] for trick in found["profitable"]}
    assert found["disagreements"] == len(found["disagreeing"]) > 0


def test_a_specification_may_be_a_file_or_a_sum(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "records.jsonl", [{"completion": "<answer>rose</answer>", "ground_truth": "rose"}])
    (tmp_path / "spec.json").write_text(json.dumps({"terms": "classification", "mode": "upstream"}))
    assert main(["audit", "--records", records, "--specification", str(tmp_path / "spec.json")]) == 1
    assert main(["audit", "--records", records, "--specification", "0.9*classification + .1*format"]) == 0
    assert main(["audit", "--records", records, "--specification", "grounding"]) == 0
    assert "have no reward" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ('{"response": 3, "truth": "x"}', ("--specification", "iou"), "line 2: response is not a text but int"),
        ("{", ("--specification", "iou"), "line 2 is not JSON"),
        ('{"response": "a", "truth": "x"}', (), "line 1: has no column `kind`"),
        ('{"response": "a", "truth": "x"}', ("--specification", "iuo"), "character 1: 'iuo' is no term"),
        ('{"response": "a", "truth": "x"}', ("--specification", "no.json"), "no.json: cannot be read"),
        ('{"response": "a", "truth": "x"}', ("--specification", "iou", "--truth", "t"), "no column 't'"),
        ('{"response": "a", "truth": "x", "served": 3}', ("--specification", "iou"), "line 2: served"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(
    line: str, options: tuple[str, ...], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text('{"response": "a", "truth": "x"}\n' + line + "\n")
    assert main(["audit", "--records", str(records), *options]) == 1
    complaint = capfd.readouterr().err.splitlines()[-1]
    assert complaint.startswith("steelyard: ")
    assert says in complaint


def test_a_file_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--records", "/no/such.jsonl", "--specification", "iou"]) == 1
    assert "/no/such.jsonl" in capfd.readouterr().err
