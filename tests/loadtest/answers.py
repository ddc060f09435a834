"""A server's answers, with the logits that a test wants."""

from collections.abc import Sequence

from steelyard.schema import Provenance, ScoreStepsResponse, StepScores, Timings, Usage


def answer(*logits: float | None) -> ScoreStepsResponse:
    """One candidate of one step a logit; None is a candidate that failed."""
    return answer_of([_failed(index) if logit is None else scored(index, logit) for index, logit in enumerate(logits)])


def answer_of(results: Sequence[StepScores]) -> ScoreStepsResponse:
    return ScoreStepsResponse(
        id="x",
        model="m",
        best=None,
        ranking=[],
        usage=Usage(prompt_tokens=1, computed_tokens=1, cached_tokens=0, tiles=0),
        provenance=Provenance(
            model="m",
            family="f",
            revision=None,
            weights="w",
            tokenizer="t",
            dtype="d",
            batch_invariant=True,
            version="v",
        ),
        timings_ms=Timings(encode=0, queue=0, forward=0, total=0),
        results=list(results),
    )


def scored(index: int, logit: float) -> StepScores:
    return StepScores(index=index, status="ok", score=0.5, step_scores=[0.5], step_logits=[logit])


def _failed(index: int) -> StepScores:
    return StepScores(index=index, status="failed", retryable=True)
