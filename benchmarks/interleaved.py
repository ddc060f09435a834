"""Times contestants in turn, round by round, on a machine that others use too."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Returns what the clock is multiplied by, for a contestant of whose work only a sample is timed.
Contestant = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Times:
    """Each contestant's seconds, a number for each round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> tuple[float, float, float]:
        """How many times `base` fits into `name`, within a round: median, least and most."""
        ratios = [one / other for one, other in zip(self.seconds[name], self.seconds[base], strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def interleave(contestants: Mapping[str, Contestant], rounds: int) -> Times:
    """Every contestant once a round, in an order that turns; shows each time as it is taken."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            started = time.perf_counter()
            scale = contestants[name]()
            seconds[name].append((time.perf_counter() - started) * scale)
            print(f"  round {index + 1}/{rounds}  {name:24} {seconds[name][-1]:8.2f} s", file=sys.stderr, flush=True)
    return Times(seconds)
