"""What a reward model is judged by: F1 of step labels, pairs in the right order, answers selected."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step's label and what the model made of it; `kind` is what is wrong with it where it is wrong.

    A step flips if another picture gives it the other label; else it is wrong, if it is, by its text alone.
    """

    kind: str
    right: bool
    predicted: bool


def macro_f1(verdicts: Sequence[Verdict]) -> float:
    """The mean of the F1 of right steps and that of wrong ones."""
    return (_f1(verdicts, label=True) + _f1(verdicts, label=False)) / 2


def by_kind(verdicts: Iterable[Verdict]) -> dict[str, dict[str, float]]:
    """For each kind of error the steps of that kind, either label, their macro-F1, and the share labelled right."""
    kinds: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        kinds[verdict.kind].append(verdict)
    return {
        kind: {
            "steps": len(found),
            "macro_f1": macro_f1(found),
            "accuracy": _share(one.right == one.predicted for one in found),
        }
        for kind, found in sorted(kinds.items())
    }


def recall_by_kind(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """For errors that the text reveals: the share that is found."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        kinds[verdict.kind].append(verdict.right == verdict.predicted)
    return {kind: _share(found) for kind, found in sorted(kinds.items())}


def in_order(pairs: Sequence[tuple[float, float]]) -> float:
    """The share of (better, worse) scores in this order; a tie is half in order."""
    return sum(0.5 * (better > worse) + 0.5 * (better >= worse) for better, worse in pairs) / len(pairs)


def best_of(scores: Sequence[float], right: Sequence[bool], count: int) -> bool:
    """Whether the first of the best among the first `count` candidates is right."""
    best = max(range(count), key=lambda index: scores[index])
    return right[best]


def shares(told: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    return {name: _share(found) for name, found in sorted(told.items())}


def _f1(verdicts: Sequence[Verdict], *, label: bool) -> float:
    found = sum(one.predicted == label for one in verdicts)
    there = sum(one.right == label for one in verdicts)
    both = sum(one.predicted == one.right == label for one in verdicts)
    return 2 * both / (found + there) if found + there else 0.0


def _share(told: Iterable[bool]) -> float:
    found = list(told)
    return sum(found) / len(found) if found else 0.0
