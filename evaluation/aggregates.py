"""From the step scores of one answer to a score for each aggregate: one call serves them all."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from steelyard.schema import Aggregate

AGGREGATES: Mapping[Aggregate, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "min": min,
    "max": max,
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "sum": sum,
}
NAMES: tuple[Aggregate, ...] = get_args(Aggregate)
