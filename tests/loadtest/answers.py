"""A server's answers, with the logits that a test wants."""

from steelyard.schema import ScoreStepsResponse, StepScores
from tests.client.answers import steps


def answer(*logits: float | None) -> ScoreStepsResponse:
    """One candidate of one step a logit; None is a candidate that failed."""
    return steps(*(_failed(index) if logit is None else scored(index, logit) for index, logit in enumerate(logits)))


def scored(index: int, logit: float) -> StepScores:
    return StepScores(index=index, status="ok", score=0.5, step_scores=[0.5], step_logits=[logit])


def _failed(index: int) -> StepScores:
    return StepScores(index=index, status="failed", retryable=True)
