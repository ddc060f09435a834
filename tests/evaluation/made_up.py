"""Small made-up data in the benchmarks' formats, and a way to run a command on it."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from evaluation.command import Work, run
from tests.service.running import ROOT

SOURCES = ("MMMU", "MathVision", "MathVerse", "DynaMath", "WeMath")
TEXT = "the circle is red square left of a triangle so we count sides and find three answer area"
WORDS = TEXT.split()
Line = dict[str, Any]


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(3, 9))).capitalize() + "."


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_picture(folder: Path, name: str = "shapes.png") -> str:
    Image.new("RGB", (64, 48), (200, 30, 40)).save(folder / name)
    return name


def solutions(folder: Path, count: int = 30) -> list[Line]:
    """As in VisualProcessBench, some steps with blank lines inside."""
    draw = random.Random(count)
    picture = write_picture(folder)
    lines: list[Line] = []
    for index in range(count):
        steps = [sentence(draw) for _ in range(draw.randint(1, 5))]
        steps[0] += "\n\n" + sentence(draw)
        labels = draw.choices([1, 1, 0, -1], k=len(steps))
        response = {"steps": steps, "process_correctness": labels}
        fields = {"image": [picture] if index % 2 else [], "question": sentence(draw), "answer": "3"}
        lines.append(fields | {"response": response, "policy_model": "made up", "data_source": SOURCES[index % 5]})
    return lines


def finish(work: Work, *arguments: object) -> int:
    return run(work, [str(argument) for argument in arguments])


def table(folder: Path, title: str) -> list[Line]:
    """The rows of one table of a written report."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return next(table["rows"] for table in report["tables"] if table["title"] == title)


def questions(folder: Path, count: int = 12, candidates: int = 8) -> list[Line]:
    """Candidates as a policy's, of two forms."""
    draw = random.Random(count)
    picture = write_picture(folder)
    lines: list[Line] = []
    for index in range(count):
        answers = draw.choices(["1", "2", "3"], k=candidates)
        chains = [[sentence(draw) for _ in range(draw.randint(1, 4))] for _ in answers]
        pool = [
            {"steps": [*steps, f"Answer: {answer}"], "answer": answer, "correct": answer == "3"}
            for steps, answer in zip(chains, answers, strict=True)
        ]
        fields = {"id": f"q{index}", "question": sentence(draw), "image": picture, "answer": "3"}
        lines.append(fields | {"form": ("count", "colour")[index % 2], "candidates": pool})
    return lines


def records(folder: Path) -> list[Line]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def own_servers() -> list[psutil.Process]:
    """Servers that a run started for a checkpoint, and that still run."""
    return [process for process in psutil.process_iter(["cmdline", "cwd"]) if _is_own_server(process)]


def _is_own_server(process: psutil.Process) -> bool:
    line = process.info["cmdline"] or []
    return process.info["cwd"] == str(ROOT) and "service" in line and "--port=0" in line
