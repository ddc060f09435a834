"""Candidates with their steps on a ground from red to green, as an SVG picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _PICTURE, _MARGIN, _ROW, _GAP = 760, 160, 16, 24, 14
_LONGEST = 74
# Red at 0, yellow half-way, green at 1: light, so that black text is read on them.
_COLOURS = ((244, 163, 154), (250, 233, 160), (158, 216, 165))


@dataclass(frozen=True, slots=True)
class Shown:
    """A candidate: its score, each step with its own, whether its answer is right, and its status when unscored."""

    score: float | None
    steps: Sequence[tuple[str, float | None]]
    correct: bool
    unscored: str | None = None


def draw_steps(question: str, picture: str | None, candidates: Sequence[Shown]) -> str:
    """An SVG document; `picture` is a file's base64."""
    left = _MARGIN + (_PICTURE + _MARGIN if picture else 0)
    parts = [_text(left, 30, question, size=18, weight="bold")]
    y = 52
    best_first = sorted(candidates, key=lambda one: (one.score is None, -(one.score or 0.0)))
    for rank, candidate in enumerate(best_first):
        parts += _candidate(candidate, rank == 0 and candidate.score is not None, left, y)
        y += _ROW * len(candidate.steps) + _GAP
    height = max(y, _PICTURE + 2 * _MARGIN if picture else 0)
    if picture:
        place = f'x="{_MARGIN}" y="{_MARGIN}" width="{_PICTURE}" height="{_PICTURE}"'
        parts.append(f'<image {place} image-rendering="pixelated" href="data:image/png;base64,{picture}"/>')
        parts.append(f'<rect {place} fill="none" stroke="#999"/>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _candidate(candidate: Shown, best: bool, left: int, y: int) -> list[str]:
    score = candidate.unscored if candidate.score is None else f"{candidate.score:.2f}"
    mark = "★ " if best else ""
    parts = [_text(left + 62, y + 17, f"{mark}{score}", size=15, anchor="end", weight="bold" if best else "normal")]
    for index, (step, value) in enumerate(candidate.steps):
        top = y + _ROW * index
        parts.append(
            f'<rect x="{left + 72}" y="{top}" width="{_WIDTH - left - 72 - _MARGIN}" height="{_ROW - 2}" rx="3" '
            f'fill="{colour(value)}"/>'
        )
        number = "" if value is None else f"{value:.2f}"
        parts.append(_text(left + 114, top + 16, number, size=12, anchor="end"))
        parts.append(_text(left + 124, top + 16, _cut(step), size=13))
    end = y + _ROW * (len(candidate.steps) - 1) + 16
    parts.append(_text(_WIDTH - _MARGIN - 8, end, "right" if candidate.correct else "wrong", size=11, anchor="end"))
    return parts


def colour(value: float | None) -> str:
    """Of a score from 0 to 1; grey where there is none."""
    if value is None:
        return "#e5e5e5"
    low, high = (_COLOURS[0], _COLOURS[1]) if value < 0.5 else (_COLOURS[1], _COLOURS[2])
    part = min(max(2 * value - (value >= 0.5), 0.0), 1.0)
    mixed = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _cut(step: str) -> str:
    line = " ".join(step.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _text(x: int, y: int, text: str, *, size: int, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )
