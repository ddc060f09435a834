"""Intervals by bootstrap over questions."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 1000


class Bootstrap:
    """Draws of so many questions with replacement, the same for all figures of a report; seeded."""

    def __init__(self, questions: int, seed: int, resamples: int = RESAMPLES) -> None:
        shares = np.full(questions, 1 / questions)
        # (resamples, questions): how often a question is drawn.
        self._counts = np.random.default_rng(seed).multinomial(questions, shares, size=resamples)

    def interval(self, values: Sequence[float]) -> tuple[float, float]:
        """The 95 % percentile interval of the mean of one value a question."""
        means = self._counts @ np.asarray(values, dtype=float) / len(values)
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)
