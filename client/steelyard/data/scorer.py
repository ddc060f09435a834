"""Scores groups over a client: every candidate gets a score, or a status that says why it has none."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steelyard.client import AsyncClient
from steelyard.data.records import Item, Outcome, Turn
from steelyard.data.spans import Group
from steelyard.errors import (
    BadAnswer,
    CannotLoad,
    InternalError,
    InvalidCall,
    InvalidRequest,
    ServiceError,
    SteelyardError,
    TooLarge,
    UnknownImage,
    UnsupportedImage,
)
from steelyard.schema import (
    Aggregate,
    CandidateScore,
    ControlTokens,
    ScoreOutcomesResponse,
    ScoreStepsResponse,
    StepScores,
)

# What is wrong with this group; anything else is wrong with the server or the way to it, and ends the run.
_OF_THE_GROUP = (InvalidRequest, TooLarge, UnsupportedImage, UnknownImage, InvalidCall, InternalError)
# Further calls for candidates whose status says that it may be tried again, and the seconds before each.
_PAUSES_S = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How to score: the model, the weights that it must have, and the wire's options."""

    kind: Literal["steps", "outcome"]
    model: str
    weights: str
    max_tiles: int | None = None
    control_tokens: ControlTokens = "parse"
    aggregate: Aggregate = "mean"
    max_steps: int | None = None


async def score_group(client: AsyncClient, scoring: Scoring, group: Group) -> list[Outcome]:
    """One outcome an item, in order. Raises SteelyardError for what ends the run."""
    try:
        return await _persist(client, scoring, group)
    except _OF_THE_GROUP as error:
        if isinstance(error, CannotLoad):
            raise
        if len(group.items) == 1:
            return [_refused(error)]
    # One candidate may be at fault: its neighbours keep their scores.
    alone = [score_group(client, scoring, Group(group.prompt, (item,))) for item in group.items]
    return [outcome for outcomes in await asyncio.gather(*alone) for outcome in outcomes]


async def _persist(client: AsyncClient, scoring: Scoring, group: Group) -> list[Outcome]:
    """Asks again for what may be tried again."""
    outcomes = await _ask(client, scoring, group)
    for pause_s in _PAUSES_S:
        places = [place for place, outcome in enumerate(outcomes) if outcome.retryable]
        if not places:
            break
        await asyncio.sleep(pause_s)
        again = Group(group.prompt, tuple(group.items[place] for place in places))
        for place, outcome in zip(places, await _ask(client, scoring, again), strict=True):
            outcomes[place] = outcome
    return outcomes


async def _ask(client: AsyncClient, scoring: Scoring, group: Group) -> list[Outcome]:
    if scoring.kind == "steps":
        answer: ScoreStepsResponse | ScoreOutcomesResponse = await _score_steps(client, scoring, group)
    else:
        answer = await _score_outcomes(client, scoring, group)
    if [result.index for result in answer.results] != list(range(len(group.items))):
        raise BadAnswer(f"{len(group.items)} candidates were sent, and {len(answer.results)} results came back")
    return [_outcome(result) for result in answer.results]


async def _score_steps(client: AsyncClient, scoring: Scoring, group: Group) -> ScoreStepsResponse:
    assert isinstance(group.prompt.asked, str)
    return await client.score_steps(
        group.prompt.asked,
        group.prompt.pictures,
        [item.candidate for item in group.items],
        model=scoring.model,
        weights=scoring.weights,
        max_steps=scoring.max_steps,
        max_tiles=scoring.max_tiles,
        aggregate=scoring.aggregate,
        control_tokens=scoring.control_tokens,
        priority="batch",
    )


async def _score_outcomes(client: AsyncClient, scoring: Scoring, group: Group) -> ScoreOutcomesResponse:
    asked = group.prompt.asked
    question: Mapping[str, object] = {"role": "user", "content": asked}
    turns: Sequence[Turn] = [question] if isinstance(asked, str) else asked
    return await client.score_outcomes(
        turns,
        [_whole(item) for item in group.items],
        group.prompt.pictures,
        model=scoring.model,
        weights=scoring.weights,
        max_tiles=scoring.max_tiles,
        control_tokens=scoring.control_tokens,
        priority="batch",
    )


def _whole(item: Item) -> str:
    assert isinstance(item.candidate, str)
    return item.candidate


def _outcome(result: CandidateScore) -> Outcome:
    """Raises BadAnswer for a score without the status, or the status without a score."""
    if (result.status == "ok") != (result.score is not None):
        raise BadAnswer(f"a result has the status {result.status} and the score {result.score}")
    if not isinstance(result, StepScores) or result.score is None:
        return Outcome(result.status, result.score, bool(result.retryable), result.detail)
    return Outcome(
        result.status, result.score, False, result.detail, result.step_scores, result.step_logits, result.step_spans
    )


def _refused(error: SteelyardError) -> Outcome:
    code = error.code if isinstance(error, ServiceError) else None
    return Outcome(code or "invalid_call", None, isinstance(error, InternalError), error.message)
