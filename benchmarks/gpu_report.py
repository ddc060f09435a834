"""What a run of `benchmarks.gpu_check` found, as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Found:
    """Rows as the parts print them; a row with a `problem` failed."""

    device: str
    parity: Rows = field(default_factory=list)
    goldens: Rows = field(default_factory=list)
    kernels: Rows = field(default_factory=list)
    engine: Rows = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        rows = [*self.parity, *self.goldens, *self.kernels, *self.engine]
        return [f"{row['row']}: {row['problem']}" for row in rows if row.get("problem")]


def table(found: Found) -> str:
    """The whole page."""
    lines = [
        f"# The kernels on {found.device}",
        "",
        "`make gpu-check`: numbers first, then times, medians; torch's way is what runs with the kernels switched off.",
        "",
        *(f"- **{problem}**" for problem in found.problems),
        *_section("Each kernel against its reference", ("kernel", "cases", "worst"), found.parity),
        *_section("Golden scores", ("run", "passed", "failed", "worst", "seconds"), found.goldens),
        *_section("Kernels", ("kernel", "size", "µs", "torch, µs", "times faster", "GB/s of the least"), found.kernels),
        *_section("The engine", ("workload", "tokens", "ms", "torch, ms", "times faster", "tokens/s"), found.engine),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, columns: Sequence[str], rows: Rows) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"## {title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|")
    for row in rows:
        if not set(columns) <= row.keys():
            continue
        yield "| " + " | ".join(_cell(row[column]) for column in columns) + " |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
