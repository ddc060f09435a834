"""What a group's results and deliveries come to: the ranking and the costs that its caller reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.gateway_model import ReadyGroup
from service.job import Delivery
from steelyard.schema import CandidateScore, ScoredGroup, ScoreOutcomesResponse, ScoreStepsResponse, Usage


@dataclass(slots=True)
class Costs:
    """What the deliveries of one group add up to; the queue is what it waited for its first forward.

    `weights` is the digest of what scored; empty until something has, or when the queue does not say.
    """

    deliveries: int = 0
    computed_tokens: int = 0
    tiles: int = 0
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    weights: str = ""

    def add(self, delivery: Delivery) -> None:
        if not self.deliveries:
            self.queue_ms = delivery.queue_ms
        self.deliveries += 1
        self.computed_tokens += delivery.computed_tokens
        self.tiles += delivery.tiles
        self.forward_ms += delivery.forward_ms
        self.weights = delivery.weights

    def usage(self, group: ReadyGroup) -> Usage:
        prompt = sum(group.prompt_tokens.values())
        return Usage(
            prompt_tokens=prompt,
            computed_tokens=self.computed_tokens,
            # What had to be computed again, as a batch failed, is no less than nothing cached.
            cached_tokens=max(0, prompt - self.computed_tokens),
            tiles=self.tiles,
        )


def whole(group: ScoredGroup, results: Sequence[CandidateScore]) -> ScoreStepsResponse | ScoreOutcomesResponse:
    """The answer with its results, which came in any order, in the caller's."""
    answer = ScoreStepsResponse if group.object == "step_scores" else ScoreOutcomesResponse
    return answer.model_construct(**(dict(group) | {"results": sorted(results, key=lambda result: result.index)}))


def rank(results: Sequence[CandidateScore]) -> list[int]:
    """Best first; ties in the caller's order."""
    scored = sorted((r.index, r.score) for r in results if r.score is not None)
    return [index for index, _ in sorted(scored, key=lambda pair: -pair[1])]
