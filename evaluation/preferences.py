"""Accuracy on preferences from scores alone: pairs by group, and RM-Bench's matrix of styles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

STYLES = ("concise", "detailed", "markdown")
Matrix = list[list[float]]
# RewardBench's leaderboard lets its 447 mathematics items weigh as much as its 984 code items.
_MATHS, _MATHS_WEIGHT = "math-prm", 984 / 447


@dataclass(frozen=True, slots=True)
class Outcome:
    """One decided pair."""

    group: str
    subset: str
    right: bool
    tie: bool


def ranks_first(scores: Sequence[float], better: int) -> bool:
    """Whether a stable ranking puts the better one first, as the reference ranks: a tie goes to the earlier."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])[0] == better


def weighted(outcomes: Sequence[Outcome]) -> float:
    """Accuracy with the leaderboard's weights."""
    weights = [_MATHS_WEIGHT if outcome.subset == _MATHS else 1.0 for outcome in outcomes]
    return sum(weight for weight, outcome in zip(weights, outcomes, strict=True) if outcome.right) / sum(weights)


def style_matrix(items: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Matrix:
    """[chosen style][rejected style] → share of items whose chosen answer scores strictly higher (arXiv 2410.16184)."""
    wins = [[0.0] * 3 for _ in STYLES]
    for chosen, rejected in items:
        for row, column in product(range(3), repeat=2):
            wins[row][column] += (chosen[row] > rejected[column]) / len(items)
    return wins


def hard_normal_easy(matrix: Matrix) -> tuple[float, float, float]:
    """The chosen answer plainer than the rejected one, of the same style, and fancier."""
    hard = [matrix[row][column] for row, column in product(range(3), repeat=2) if row < column]
    easy = [matrix[row][column] for row, column in product(range(3), repeat=2) if row > column]
    return sum(hard) / 3, sum(matrix[style][style] for style in range(3)) / 3, sum(easy) / 3
