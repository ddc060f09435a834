"""A run's report: Markdown for people, the same as JSON for programs, pictures beside them."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evaluation.records import Record, Result
from evaluation.session import Run, Target

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Figures under a heading; `note` says what they are and how many items they rest on."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(slots=True)
class Report:
    """What was measured, on what, by which command."""

    title: str
    command: str
    facts: dict[str, Cell] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """`report.md`, `report.json` and an SVG a picture."""
        for name, svg in self.pictures.items():
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        (folder / "report.md").write_text(self.markdown(), encoding="utf-8")
        fields = {"title": self.title, "command": self.command, "facts": self.facts}
        tables = [
            {**asdict(table), "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
            for table in self.tables
        ]
        content = json.dumps(fields | {"tables": tables}, indent=1, ensure_ascii=False)
        (folder / "report.json").write_text(content + "\n", encoding="utf-8")

    def markdown(self) -> str:
        lines = [f"# {self.title}", "", *(f"- {name}: {_shown(value)}" for name, value in self.facts.items())]
        lines += ["", "```", self.command, "```"]
        for table in self.tables:
            lines += ["", f"## {table.title}", "", table.note, "", _row(table.columns)]
            lines += ["|" + "|".join("---" if index == 0 else "---:" for index in range(len(table.columns))) + "|"]
            lines += [_row([_shown(cell) for cell in row]) for row in table.rows]
        lines += [line for name in self.pictures for line in ("", f"![{name}]({name}.svg)")]
        return "\n".join(lines) + "\n"


def command_line(module: str, arguments: Sequence[str]) -> str:
    """As it was given, but for a password in an address."""
    shown = [re.sub(r"//[^/@\s]*@", "//…@", argument) for argument in arguments]
    return shlex.join(["python", "-m", f"evaluation.{module}", *shown])


def run_facts(runs: Sequence[Run], target: Target) -> dict[str, Cell]:
    """What exactly scored, and how it was asked."""
    settings = target.settings
    asked = f"max_tiles {settings.max_tiles or 'the model’s own'}, control_tokens {settings.control_tokens}"
    facts: dict[str, Cell] = {f"model {run.served.name}": _provenance(run) for run in runs}
    return facts | {"settings": asked}


def _provenance(run: Run) -> str:
    by = run.served.provenance
    revision = f", revision {by.revision}" if by.revision else ""
    return f"{by.family}, {by.dtype}, weights {by.weights}, tokenizer {by.tokenizer}{revision}, server {by.version}"


def failures(records: Iterable[Record]) -> list[Table]:
    """The candidates without a score, by status; no table when there are none."""
    failed = [result for record in records for result in record.results if result.status != "ok"]
    if not failed:
        return []
    rows = [(status, count, _example(failed, status)) for status, count in Counter(r.status for r in failed).items()]
    note = "Left out of every figure. Those that may fare better are tried again by the same command."
    return [Table("Without a score", note, ("status", "candidates", "for example"), rows)]


def _example(failed: Sequence[Result], status: str) -> str:
    return next((result.detail or "" for result in failed if result.status == status), "")


def _row(cells: Sequence[str]) -> str:
    # A detail may quote the user's text.
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Cell) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
