"""Which of the scored candidates is taken, and when it is clear which it will be: pure functions."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from steelyard.best_of_n.answers import normal
from steelyard.best_of_n.candidates import Candidate
from steelyard.blending import Normalize, blend
from steelyard.errors import InvalidCall

Extract = Callable[[str], str | None]
Weigh = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate, and of a vote every answer's weight."""

    candidate: Candidate
    answer: str | None
    votes: Mapping[str, float]


def reblended(
    candidates: Sequence[Candidate], shares: Mapping[str, float] | None, normalize: Normalize
) -> list[Candidate]:
    """The scored ones, each with its score among them: a blend's depends on the group, one model's does not."""
    scored = [candidate for candidate in candidates if candidate.status == "ok"]
    if shares is None:
        return scored
    own = {name: [candidate.own[name] for candidate in scored] for name in shares}
    scores = blend(own, shares, normalize)
    return [replace(candidate, score=score) for candidate, score in zip(scored, scores, strict=True)]


def best_of(scored: Sequence[Candidate]) -> Candidate:
    """The highest score; of equal ones the first that was drawn."""
    return max(scored, key=lambda candidate: (_score(candidate), -candidate.number))


def vote(scored: Sequence[Candidate], extract: Extract, weigh: Weigh) -> Choice:
    """The best candidate of the answer with most weight; without any answer the best of all. Raises InvalidCall."""
    weights = _weights(scored, extract, weigh)
    voters = {candidate.number: normal(extract(candidate.text)) for candidate in scored}
    if weights:
        # Of equal weights the answer that was given first: a dictionary keeps its order, and max its first.
        winner = max(weights, key=lambda answer: weights[answer])
        best = best_of([candidate for candidate in scored if voters[candidate.number] == winner])
    else:
        best = best_of(scored)
    return Choice(best, extract(best.text), weights)


def is_decided(scored: Sequence[Candidate], remaining: int, extract: Extract, weigh: Weigh, heaviest: float) -> bool:
    """Whether the leading answer stays ahead even if all that remain give its rival, each with the heaviest weight."""
    weights = sorted(_weights(scored, extract, weigh).values(), reverse=True)
    if not weights:
        return False
    rival = weights[1] if len(weights) > 1 else 0.0
    return weights[0] > rival + remaining * heaviest


def logistic(score: float) -> float:
    """An unbounded score as a weight between 0 and 1."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def _weights(scored: Sequence[Candidate], extract: Extract, weigh: Weigh) -> dict[str, float]:
    weights: dict[str, float] = defaultdict(float)
    for candidate in scored:
        answer = normal(extract(candidate.text))
        weight = weigh(_score(candidate))
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidCall(
                f"weigh: {weight} for the score {candidate.score}; a vote's weight is finite and not below 0"
            )
        if answer is not None:
            weights[answer] += weight
    return dict(weights)


def _score(candidate: Candidate) -> float:
    assert candidate.score is not None
    return candidate.score
