"""One score out of several models': each model's scores made comparable within their group, then summed by weight."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Literal

Normalize = Literal["zscore", "rank", "none"]


def blend(scores: Mapping[str, Sequence[float]], weights: Mapping[str, float], normalize: Normalize) -> list[float]:
    """The weighted sum of every candidate's scores by model, each model's first normalised over the candidates.

    The models' lists are equally long: a candidate that one of them did not score is in none.
    """
    columns = [[weight * value for value in _NORMALIZE[normalize](scores[name])] for name, weight in weights.items()]
    return [sum(values) for values in zip(*columns, strict=True)]


def standardised(values: Sequence[float]) -> list[float]:
    """Mean 0 and deviation 1; equal values are all 0."""
    mean = sum(values) / len(values) if values else 0.0
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / max(len(values), 1))
    # Rounding must not make a spread out of equal values.
    if not values or max(values) == min(values) or deviation == 0:
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]


def fractional_ranks(values: Sequence[float]) -> list[float]:
    """From 0 for the lowest to 1 for the highest, equal values halfway; a value alone is 1."""
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered)))}
    last = {value: place for place, value in enumerate(ordered)}
    most = len(values) - 1
    return [(first[value] + last[value]) / (2 * most) if most else 1.0 for value in values]


_NORMALIZE: Mapping[Normalize, Callable[[Sequence[float]], Sequence[float]]] = {
    "zscore": standardised,
    "rank": fractional_ranks,
    "none": list,
}
