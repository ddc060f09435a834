"""From a job's outcomes to the results, the ranking and the costs that its caller reads."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.encoding import ReadyGroup
from service.job import Delivery, Outcome
from steelyard.schema import Aggregate, StepScores, Usage

_AGGREGATE: dict[Aggregate, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "min": min,
    "max": max,
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "sum": sum,
}


@dataclass(slots=True)
class Costs:
    """What the deliveries of one group add up to; the queue is what it waited for its first forward."""

    deliveries: int = 0
    computed_tokens: int = 0
    tiles: int = 0
    queue_ms: float = 0.0
    forward_ms: float = 0.0

    def add(self, delivery: Delivery) -> None:
        if not self.deliveries:
            self.queue_ms = delivery.queue_ms
        self.deliveries += 1
        self.computed_tokens += delivery.computed_tokens
        self.tiles += delivery.tiles
        self.forward_ms += delivery.forward_ms

    def usage(self, group: ReadyGroup) -> Usage:
        prompt = sum(group.prompt_tokens.values())
        return Usage(
            prompt_tokens=prompt,
            computed_tokens=self.computed_tokens,
            cached_tokens=prompt - self.computed_tokens,
            tiles=self.tiles,
        )


def results_of(outcome: Outcome, group: ReadyGroup, aggregate: Aggregate) -> list[StepScores]:
    """One result for each of the caller's candidates that this outcome stands for."""
    places = group.places[outcome.candidate]
    if outcome.status != "ok":
        return [
            StepScores(index=i, status=outcome.status, retryable=outcome.retryable, detail=outcome.detail)
            for i in places
        ]
    logits = outcome.scores().astype(float)
    margins = (logits[:, 0] - logits[:, 1]).tolist()
    scores = [_sigmoid(margin) for margin in margins]
    return [
        StepScores(
            index=index,
            status="ok",
            score=_AGGREGATE[aggregate](scores),
            step_scores=scores,
            step_logits=margins,
            step_spans=group.spans[index],
            detail=group.details.get(index),
        )
        for index in places
    ]


def _sigmoid(x: float) -> float:
    """Without overflow at either end."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def rank(results: Sequence[StepScores]) -> list[int]:
    """Best first; ties in the caller's order."""
    scored = sorted((r.index, r.score) for r in results if r.score is not None)
    return [index for index, _ in sorted(scored, key=lambda pair: -pair[1])]
