"""A specification put to work: what its terms have in common is computed once, what they come to is one number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from steelyard.rewards.failures import NotFinite

# What several terms may read off one pass over the texts: a value each.
Reading = Callable[[str, str | None, Mapping[str, float]], Sequence[float]]
Settle = Callable[[str, float, Mapping[str, float]], float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The total, and each term's own value before its weight, by the term's name. All are finite."""

    total: float
    parts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A term: which value of which reading it is."""

    name: str
    weight: float
    reading: int
    place: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """Prepared once, called for each response; it keeps no state and may be called from many threads."""

    readings: Sequence[Reading]
    parts: Sequence[Part]
    settle: Sequence[Settle] = ()

    def __call__(
        self, response: str, truth: str | None = None, served: Mapping[str, float] | None = None
    ) -> Evaluation:
        """Raises RewardFailure where there is no number."""
        values = [reading(response, truth, served or {}) for reading in self.readings]
        parts: dict[str, float] = {}
        total = 0.0
        for part in self.parts:
            value = values[part.reading][part.place]
            parts[part.name] = value
            total += part.weight * value
        if not isfinite(total):
            raise NotFinite(f"the total is {total}, of {parts}")
        for settle in self.settle:
            total = settle(response, total, parts)
        return Evaluation(total, parts)
