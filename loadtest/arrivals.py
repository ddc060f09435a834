"""When requests are sent: plans that are fixed before the first answer comes, the same for the same seed."""

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from steelyard.schema import Priority


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, so many seconds after the start."""

    at_s: float
    priority: Priority


def poisson(rate: float, seconds: float, priority: Priority, seed: int) -> Iterator[Arrival]:
    """Callers who know nothing of one another, `rate` a second on average; none for a rate of 0."""
    if rate <= 0:
        return
    # Two series of one plan must not draw the same times.
    gaps = random.Random(f"{seed} {priority}")
    at_s = gaps.expovariate(rate)
    while at_s < seconds:
        yield Arrival(at_s, priority)
        at_s += gaps.expovariate(rate)


def bursts(groups: int, every_s: float, seconds: float, priority: Priority) -> Iterator[Arrival]:
    """A trainer: so many groups at once, then silence while it learns."""
    at_s = 0.0
    for burst in range(1, int(seconds / every_s) + 2):
        if at_s >= seconds:
            return
        for _ in range(groups):
            yield Arrival(at_s, priority)
        at_s = burst * every_s


def merge(*series: Iterable[Arrival]) -> Iterator[Arrival]:
    """One plan in the order of time."""
    return heapq.merge(*series, key=attrgetter("at_s"))


def share(plan: Iterable[Arrival], index: int, of: int) -> Iterator[Arrival]:
    """What the generator `index` of `of` sends; together they send all of it."""
    return islice(plan, index, None, of)
