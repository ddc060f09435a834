"""How far two scorings of the same candidates agree on their order."""

from collections.abc import Sequence
from itertools import combinations
from math import sqrt


def kendall_tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b, which allows for ties; None where either side ties everything (Kendall 1945)."""
    concordance = 0
    untied_one = untied_other = 0
    for (a, b), (c, d) in combinations(zip(one, other, strict=True), 2):
        first, second = _sign(a - c), _sign(b - d)
        concordance += first * second
        untied_one += first != 0
        untied_other += second != 0
    return concordance / sqrt(untied_one * untied_other) if untied_one and untied_other else None


def best(scores: Sequence[float]) -> int:
    """Index of the highest; of equal ones the first, as the server ranks."""
    return max(range(len(scores)), key=scores.__getitem__)


def _sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)
