"""What answering many questions by Best-of-N came to: right or not, by candidates and by tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.candidates import Question
from evaluation.groups import Group
from evaluation.intervals import Bootstrap
from evaluation.records import Record
from evaluation.report import Cell, Table
from evaluation.solutions import is_right
from steelyard.best_of_n import Answer, final_answer

_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate: its text, whether its answer is right, its score and tokens."""

    text: str
    right: bool
    score: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question: whether the chosen answer is right, and the candidates in the order in which they were drawn."""

    right: bool
    tried: tuple[Tried, ...]
    chosen: str

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.tried)

    def first(self, n: int) -> "Outcome":
        """What the best of the first n would have been; the first of equal ones."""
        tried = self.tried[:n]
        scored = [one for one in tried if one.score is not None]
        best = max(scored, key=lambda one: one.score or 0.0, default=None)
        return Outcome(best is not None and best.right, tried, "" if best is None else best.text)


def outcome_of(question: Question, answer: Answer) -> Outcome:
    tried = [
        Tried(one.text, is_right(final_answer(one.text), question.answer), one.score, one.tokens)
        for one in answer.trace.candidates
    ]
    return Outcome(is_right(answer.answer, question.answer), tuple(tried), answer.text)


def summary(name: str, found: Sequence[Outcome], bootstrap: Bootstrap) -> tuple[Cell, ...]:
    """Accuracy in percent with its interval, candidates and tokens a question."""
    right = [float(one.right) for one in found]
    low, high = bootstrap.interval(right)
    candidates = sum(len(one.tried) for one in found) / len(found)
    tokens = sum(one.tokens for one in found) / len(found)
    return (name, 100 * sum(right) / len(right), 100 * low, 100 * high, candidates, tokens)


def at_tokens(whole: Sequence[Outcome], tokens: float) -> list[float]:
    """By question how right the best of N is for the N that costs so many tokens on average, between two N a line."""
    most = max(len(one.tried) for one in whole)
    by_n = [[one.first(n) for one in whole] for n in range(1, most + 1)]
    costs = [sum(one.tokens for one in found) / len(found) for found in by_n]
    above = next((place for place, cost in enumerate(costs) if cost >= tokens), most - 1)
    below = max(0, above - 1)
    span = costs[above] - costs[below]
    share = min(1.0, max(0.0, (tokens - costs[below]) / span)) if span else 1.0
    pairs = zip(by_n[below], by_n[above], strict=True)
    return [(1 - share) * one.right + share * other.right for one, other in pairs]


def first_past(found: Sequence[Outcome], loss: float) -> float:
    """The lowest score at which the first candidate may be taken without losing more than that of the accuracy."""
    scores = sorted({one.score for outcome in found for one in outcome.tried if one.score is not None})
    whole = sum(outcome.right for outcome in found) / len(found)
    for threshold in scores:
        if sum(_stopped(outcome, threshold) for outcome in found) / len(found) >= whole - loss:
            return threshold
    return scores[-1]


def same_candidates(
    asked: Sequence[tuple[Question, Group]], records: Mapping[str, Record], found: Sequence[Outcome], n: int
) -> Table:
    """Candidate by candidate: the text, the score and the choice, beside those of the evaluation's own path."""
    texts = scores = candidates = choices = right = 0
    largest = 0.0
    for (question, group), outcome in zip(asked, found, strict=True):
        results, listed = records[group.id].results[:n], question.candidates[:n]
        outcome = outcome.first(n)
        for result, solution, one in zip(results, listed, outcome.tried, strict=True):
            candidates += 1
            texts += one.text == "\n\n".join(solution.steps)
            if result.score is None or one.score is None:
                scores += result.score is one.score
                continue
            difference = abs(result.score - one.score) / (1 + abs(result.score))
            largest = max(largest, difference)
            scores += difference <= _TOLERANCE
        best = max(range(len(listed)), key=lambda index: (results[index].score or 0.0, -index))
        choices += outcome.chosen == "\n\n".join(listed[best].steps)
        right += outcome.right == listed[best].correct
    rows: list[tuple[Cell, ...]] = [
        ("candidates with the same text", texts, candidates),
        (f"with the same score, within {_TOLERANCE:g} · (1 + |score|)", scores, candidates),
        ("questions with the same choice", choices, len(asked)),
        ("questions with the same verdict", right, len(asked)),
    ]
    note = f"Best of {n}, both ways. The largest difference of a score is {largest:.1e} · (1 + |score|)."
    return Table("Over HTTP as in the evaluation", note, ("what", "equal", "of"), rows)


def _stopped(outcome: Outcome, threshold: float) -> bool:
    """Whether the first candidate at the threshold is right; the best one where none reaches it."""
    first = next((one for one in outcome.tried if one.score is not None and one.score >= threshold), None)
    return outcome.right if first is None else first.right
