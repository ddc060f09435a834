"""Answers as a server would give them, for tests that need none."""

import hashlib
from collections.abc import Sequence

from steelyard.schema import (
    CandidateScore,
    OutcomeScore,
    Provenance,
    ScoreOutcomesResponse,
    ScoreStepsResponse,
    StepScores,
    StoredImage,
    Timings,
    Usage,
)
from tests.client.scripted import Said, Seen

PROVENANCE = Provenance(
    model="m",
    family="f",
    revision=None,
    weights="sha256:0",
    tokenizer="sha256:1",
    dtype="float32",
    batch_invariant=False,
    version="0.1.0",
)
_USAGE = Usage(prompt_tokens=1, computed_tokens=1, cached_tokens=0, tiles=0)
_TIMINGS = Timings(encode=0, queue=0, forward=0, total=0)


def steps(*results: StepScores) -> ScoreStepsResponse:
    order = ranking(results)
    best = order[0] if order else None
    return ScoreStepsResponse(
        id="i",
        model="m",
        best=best,
        ranking=order,
        results=list(results),
        usage=_USAGE,
        provenance=PROVENANCE,
        timings_ms=_TIMINGS,
    )


def outcomes(*results: OutcomeScore) -> ScoreOutcomesResponse:
    order = ranking(results)
    best = order[0] if order else None
    return ScoreOutcomesResponse(
        id="i",
        model="m",
        best=best,
        ranking=order,
        results=list(results),
        usage=_USAGE,
        provenance=PROVENANCE,
        timings_ms=_TIMINGS,
    )


def ranking(results: Sequence[CandidateScore]) -> list[int]:
    scored = [(result.score, result.index) for result in results if result.score is not None]
    return [index for _, index in sorted(scored, key=lambda pair: (-pair[0], pair[1]))]


ONE_STEP = StepScores(index=0, status="ok", score=0.5, step_scores=[0.5], step_logits=[0.0], step_spans=[(0, 1)])


def serves(seen: Seen) -> Said:
    """Stores every picture and gives each route a well-formed answer."""
    if seen.method == "PUT":
        image_id = "sha256:" + hashlib.sha256(seen.body).hexdigest()
        return _said(StoredImage(id=image_id, width=1, height=1, bytes=len(seen.body)))
    if seen.path == "/score_outcomes":
        return _said(outcomes(OutcomeScore(index=0, status="ok", score=-3.5)))
    return _said(steps(ONE_STEP))


def _said(answer: StoredImage | ScoreStepsResponse | ScoreOutcomesResponse) -> Said:
    return Said(200, answer.model_dump_json().encode())
