"""How many verifiable rewards one core computes a second, and how long a thousand boxes take against a thousand.

`python -m benchmarks.verifiable_rewards [--seconds 1.0]`. Every number that is timed was compared first: rewards with
the golden cases where they are there, matching by numpy with the plain loop, bit for bit. A typical detection answer
has one to three boxes. Each time is the best of five. Mathematics stands apart: it is math-verify's.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from steelyard.rewards import SHIPPED, Specification
from steelyard.rewards.matching import match, match_plainly
from tests.conformance import visual_rft

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "visual_rft" / "public.json"
_SEED = 7
_ITEMS = 400
_REPEATS = 5
Item = tuple[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="that each of the five takes, about")
    options = parser.parse_args()
    _check_golden()
    for name, items in _items().items():
        for mode in ("strict", "upstream") if name != "maths" else ("strict",):
            specification = SHIPPED[name].in_mode(mode)
            specification = specification.model_copy(update={"maths_first": False})
            rate = _rate(specification, items, options.seconds)
            print(f"{name:<16} {mode:<9} {rate:>9,.0f} rewards a second, {' + '.join(specification.names)}")
    for what, truth, answers in _groups():
        assert match(truth, answers) == match_plainly(truth, answers), what
        took = min(_timed(lambda t=truth, a=answers: match(t, a)) for _ in range(_REPEATS))  # type: ignore[misc]
        plain = _timed(lambda t=truth, a=answers: match_plainly(t, a))  # type: ignore[misc]
        print(f"{what}: {took * 1000:.1f} ms, by the plain loop {plain * 1000:.0f} ms, the same bits")
    return 0


def _check_golden() -> None:
    if not GOLDEN.is_file():
        print(f"no golden cases at {GOLDEN}")
        return
    verdicts = list(visual_rft.verdicts(GOLDEN, None, None))
    assert all(verdict.passed for verdict in verdicts)
    print(f"{len(verdicts)} golden cases equal")


def _items() -> dict[str, list[Item]]:
    """Each as (response, solution)."""
    draw = random.Random(_SEED)
    names = [f"Class {number}" for number in range(100)]
    return {
        "detection": [_detection(draw) for _ in range(_ITEMS)],
        "classification": [
            (_framed(draw.choice(names)), f"<answer>{draw.choice(names)}</answer>") for _ in range(_ITEMS)
        ],
        "grounding": [(_framed(_corners(draw)), f"<answer> {_corners(draw)} </answer>") for _ in range(_ITEMS)],
        "multiple_choice": [(_framed(draw.choice("ABCD")), draw.choice("ABCD")) for _ in range(_ITEMS)],
        "maths": [(_framed(f"$\\frac{{{draw.randrange(99)}}}{{7}}$"), f"${draw.randrange(99)}/7$") for _ in range(40)],
    }


def _framed(content: str) -> str:
    return (
        f"<think>I look at the picture, and I see what was asked for near the middle.</think><answer>{content}</answer>"
    )


def _corners(draw: random.Random) -> str:
    x, y, width, height = _box(draw)
    return f"({x},{y}),({width},{height})"


def _box(draw: random.Random) -> list[int]:
    x, y = draw.randrange(900), draw.randrange(900)
    return [x, y, x + draw.randrange(20, 100), y + draw.randrange(20, 100)]


def _detection(draw: random.Random) -> Item:
    """One to three boxes, some a little off, some amiss."""
    truth = [_box(draw) for _ in range(draw.randrange(1, 4))]
    answers = [[number + draw.randrange(-6, 7) for number in box] for box in truth if draw.random() < 0.9]
    answers = answers or [_box(draw)]
    rows = [{"Position": box, "Confidence": round(draw.random(), 2)} for box in answers]
    solution = [{"Position": box, "Confidence": 1} for box in truth]
    return _framed(_spelt(rows)), f"<answer>{_spelt(solution)}</answer>"


def _spelt(rows: Sequence[object]) -> str:
    return json.dumps(rows).replace('"', "'")


def _rate(specification: Specification, items: Sequence[Item], seconds: float) -> float:
    evaluate = specification.compile()

    def once() -> None:
        for response, truth in items:
            evaluate(response, truth)

    rounds = max(1, round(seconds / max(_timed(once), 1e-6)))

    def many() -> None:
        for _ in range(rounds):
            once()

    return rounds * len(items) / min(_timed(many) for _ in range(_REPEATS))


def _groups() -> list[tuple[str, list[list[int]], list[list[int]]]]:
    """A thousand boxes all over the picture, and a thousand that all overlap one another by more than half."""
    draw = random.Random(_SEED)
    spread = [_box(draw) for _ in range(1_000)]
    near = [[number + draw.randrange(-3, 4) for number in box] for box in spread]
    heaps = [[[draw.randrange(20), draw.randrange(20), 200, 200] for _ in range(1_000)] for _ in range(2)]
    return [("1,000 × 1,000 boxes, spread", spread, near), ("1,000 × 1,000 boxes, one heap", heaps[0], heaps[1])]


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
