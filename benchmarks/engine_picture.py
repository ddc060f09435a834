"""The engine's results as an SVG picture: how many times as long the others take.

`python -m benchmarks.engine_picture benchmarks/results/engine-cpu-bfloat16.json`: writes it beside the JSON file.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from statistics import median
from typing import Any

OURS = "steelyard"
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _GAP = 760, 210, 70, 44, 24, 14
# The axis: a tenth of ours to a hundred times.
_DECADES = (0.5, 100.0)


def draw(reports: Sequence[Mapping[str, Any]], title: str) -> str:
    """An SVG document with one bar a contestant, on a logarithmic axis."""
    rows, top = [], _TOP
    for report in reports:
        for name, ratio in _ratios(report["seconds"]):
            rows.append(_bar(f"{report['workload']}  {name}", ratio, top))
            top += _ROW
        top += _GAP
    marks = "".join(
        f'<path d="M{_at(mark):.1f} {_TOP - 6}V{top - _GAP}" stroke="#ccc"/>'
        f'<text x="{_at(mark):.1f}" y="{_TOP - 10}" text-anchor="middle" fill="#666">{mark}×</text>'
        for mark in (1, 2, 5, 10, 20, 50)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="12" y="18" font-size="15">{escape(title)}</text>\n{marks}\n' + "\n".join(rows) + "\n</svg>\n"
    )


def write(results: Path) -> None:
    """Beside the JSON file, under its name."""
    reports = json.loads(results.read_text(encoding="utf-8"))
    title = "Time to score a group, times that of Steelyard (shorter is better)"
    results.with_suffix(".svg").write_text(draw(reports, title), encoding="utf-8")


def _ratios(seconds: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, float]]:
    for name, taken in seconds.items():
        if not name.startswith("("):
            yield name, median(one / ours for one, ours in zip(taken, seconds[OURS], strict=True))


def _bar(name: str, ratio: float, top: int) -> str:
    color = "#1f77b4" if name.split("  ")[1].startswith(OURS) else "#bbbbbb"
    return (
        f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{top + 3}" width="{_at(ratio) - _LEFT:.1f}" height="16" fill="{color}"/>'
        f'<text x="{_at(ratio) + 6:.1f}" y="{top + 15}">{ratio:.2f}</text>'
    )


def _at(ratio: float) -> float:
    low, high = map(log10, _DECADES)
    place = (log10(min(max(ratio, _DECADES[0]), _DECADES[1])) - low) / (high - low)
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
