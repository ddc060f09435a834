"""Two scorings of the same groups, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.candidates import Question, value_of
from evaluation.intervals import mean
from evaluation.ordering import best, kendall_tau_b
from evaluation.records import Record
from evaluation.selection import by_score
from steelyard.schema import Aggregate


@dataclass(frozen=True, slots=True)
class Pair:
    """One group's candidates that both sides scored; `correct` is empty where it is not known."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    correct: tuple[bool, ...]

    def accuracy(self, scores: Sequence[float]) -> float:
        """Whether the best one is right; equally good ones share."""
        return by_score(scores, self.correct, len(self.correct))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Figures over all groups."""

    tau_b: float | None
    tau_b_groups: int
    same_best: float | None
    ordered_groups: int
    differences: list[float]


def pair_up(
    a: Mapping[str, Record], b: Mapping[str, Record], questions: Mapping[str, Question], aggregate: Aggregate
) -> list[Pair]:
    """The groups of the same id and inputs with a candidate that both scored."""
    pairs = []
    for id in a:
        if id in b and a[id].input == b[id].input:
            pair = _pair(a[id], b[id], questions.get(id), aggregate)
            if pair.a:
                pairs.append(pair)
    return pairs


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Of at least one pair."""
    ordered = [pair for pair in pairs if len(pair.a) > 1]
    taus = [tau for pair in ordered if (tau := kendall_tau_b(pair.a, pair.b)) is not None]
    return Agreement(
        tau_b=mean(taus) if taus else None,
        tau_b_groups=len(taus),
        same_best=mean([best(pair.a) == best(pair.b) for pair in ordered]) if ordered else None,
        ordered_groups=len(ordered),
        differences=[abs(x - y) for pair in pairs for x, y in zip(pair.a, pair.b, strict=True)],
    )


def _pair(a: Record, b: Record, question: Question | None, aggregate: Aggregate) -> Pair:
    values = [(value_of(x, aggregate), value_of(y, aggregate)) for x, y in zip(a.results, b.results, strict=True)]
    both = [(index, x, y) for index, (x, y) in enumerate(values) if x is not None and y is not None]
    correct = () if question is None else tuple(question.candidates[index].correct for index, _, _ in both)
    return Pair(tuple(x for _, x, _ in both), tuple(y for _, _, y in both), correct)
