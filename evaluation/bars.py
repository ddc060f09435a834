"""Named values as an SVG picture of bars, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 720, 190, 60, 40, 26


@dataclass(frozen=True, slots=True)
class Bar:
    """A percentage and the interval around it."""

    name: str
    percent: float
    interval: tuple[float, float] | None = None


def draw_bars(title: str, bars: Sequence[Bar]) -> str:
    """An SVG document; the axis is 0 … 100 percent."""
    height = _TOP + _ROW * len(bars) + 12
    rows = [_row(bar, _TOP + _ROW * index) for index, bar in enumerate(bars)]
    half = _at(50)
    body = "\n".join(
        [
            f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
            f'<path d="M{half:.1f} {_TOP}V{height - 8}" stroke="#bbb" stroke-dasharray="4 3"/>',
            *rows,
        ]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _row(bar: Bar, top: int) -> str:
    end, middle = _at(bar.percent), top + 10
    parts = [
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect x="{_LEFT}" y="{top + 2}" width="{end - _LEFT:.1f}" height="16" fill="#1f77b4"/>',
        f'<text x="{_WIDTH - _RIGHT + 10}" y="{top + 14}">{bar.percent:.1f}</text>',
    ]
    if bar.interval is not None:
        low, high = map(_at, bar.interval)
        parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="black" stroke-width="1.5"/>')
    return "".join(parts)


def _at(percent: float) -> float:
    return _LEFT + percent / 100 * (_WIDTH - _LEFT - _RIGHT)
