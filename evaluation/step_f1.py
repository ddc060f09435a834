"""F1 of correct and of incorrect steps, and the threshold between them (VisualProcessBench, arXiv 2503.10291)."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nextafter

CORRECT, NEUTRAL, INCORRECT = 1, 0, -1
_CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Steps by label and verdict; a step is called correct when its score is above the threshold."""

    correct_called_correct: int = 0
    correct_called_incorrect: int = 0
    incorrect_called_correct: int = 0
    incorrect_called_incorrect: int = 0

    @property
    def f1_correct(self) -> float:
        return _f1(self.correct_called_correct, self.incorrect_called_correct + self.correct_called_incorrect)

    @property
    def f1_incorrect(self) -> float:
        return _f1(self.incorrect_called_incorrect, self.incorrect_called_correct + self.correct_called_incorrect)

    @property
    def macro_f1(self) -> float:
        """In 0 … 1; a class without steps counts as 0, as a class of which none is found."""
        return (self.f1_correct + self.f1_incorrect) / 2


class LabelledScores:
    """Scores of steps that are correct or incorrect, sorted once; neutral steps are left out."""

    def __init__(self, steps: Sequence[tuple[float, int]]) -> None:
        self._correct = sorted(score for score, label in steps if label == CORRECT)
        self._incorrect = sorted(score for score, label in steps if label == INCORRECT)

    def __len__(self) -> int:
        return len(self._correct) + len(self._incorrect)

    def verdicts(self, threshold: float) -> Verdicts:
        """Of all steps at once."""
        below_correct = bisect_right(self._correct, threshold)
        below_incorrect = bisect_right(self._incorrect, threshold)
        return Verdicts(
            correct_called_correct=len(self._correct) - below_correct,
            correct_called_incorrect=below_correct,
            incorrect_called_correct=len(self._incorrect) - below_incorrect,
            incorrect_called_incorrect=below_incorrect,
        )

    def best_threshold(self) -> float:
        """The one with the highest macro-F1, midway between neighbouring scores; of equally good ones the lowest."""
        scores = sorted({*self._correct, *self._incorrect}) or [0.5]
        # The midpoint of neighbouring floats may round up to the higher one, below which it must stay.
        between = [min((low + high) / 2, nextafter(high, low)) for low, high in pairwise(scores)]
        cuts = [nextafter(scores[0], -inf), *between, scores[-1]]
        return max(cuts, key=lambda cut: self.verdicts(cut).macro_f1)

    def curve(self) -> list[tuple[float, float]]:
        """(threshold, macro-F1) at even distances over 0 … 1, where P(+) lies."""
        cuts = [index / (_CURVE_POINTS - 1) for index in range(_CURVE_POINTS)]
        return [(cut, self.verdicts(cut).macro_f1) for cut in cuts]


def _f1(found: int, mistaken: int) -> float:
    return 2 * found / (2 * found + mistaken) if found else 0.0
