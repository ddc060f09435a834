"""Lines over a shared axis as an SVG picture, drawn by hand: nothing to install."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2, log10

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 200, 40, 50
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f")
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its points, x ascending."""

    name: str
    points: Sequence[tuple[float, float]]


def draw_lines(title: str, x_name: str, y_name: str, lines: Sequence[Line], *, doubling: bool = False) -> str:
    """An SVG document; with `doubling`, 1, 2, 4, … stand at even distances."""
    drawn = [Line(line.name, [(log2(x) if doubling else x, y) for x, y in line.points]) for line in lines]
    points = [point for line in drawn for point in line.points] or [(0.0, 0.0)]
    left, right = _span([x for x, _ in points])
    low, high = _span([y for _, y in points])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + (point[0] - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return x, y

    xs = sorted({x for x, _ in points}) if doubling else _ticks(left, right)
    parts = [_text(_LEFT, 22, title, size=15)]
    for x in xs:
        at, _ = place((x, low))
        parts.append(_text(at, _HEIGHT - _BOTTOM + 18, f"{2**x if doubling else x:.3g}", anchor="middle"))
    for y in _ticks(low, high):
        _, at = place((left, y))
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, at + 4, f"{y:.3g}", anchor="end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, x_name, anchor="middle"))
    parts.append(_text(_LEFT, _TOP - 4, y_name))
    # The last one first and widest: where lines lie on each other, each shows beside those above it.
    for index, line in reversed(list(enumerate(drawn))):
        parts.append(_line([place(point) for point in line.points], index))
        parts.append(_text(_WIDTH - _RIGHT + 34, _TOP + 18 * index + 14, line.name))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _line(points: Sequence[tuple[float, float]], index: int) -> str:
    """The line and, beside the legend's name, its key."""
    colour = _COLOURS[index % len(_COLOURS)]
    dashes = ' stroke-dasharray="6 3"' if index >= len(_COLOURS) else ""
    key = _TOP + 18 * index + 10
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points] if len(points) < 20 else []
    stroke = f'fill="none" stroke="{colour}" stroke-width="{2 + 0.8 * index:.1f}"{dashes}'
    return "".join([f'<path d="M{path}M{_WIDTH - _RIGHT + 10} {key}h18" {stroke}/>', *dots])


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about five of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * index for index in range(ceil(low / step), floor(high / step) + 1)]
