"""How one group gets its scores, without I/O: what to ask, what to ask again, and what is left without a score."""

import uuid
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from steelyard.candidates import text_of
from steelyard.client import AsyncClient, Client
from steelyard.errors import (
    BodyTooLarge,
    InvalidCall,
    InvalidKey,
    InvalidPicture,
    InvalidRequest,
    NotAllowed,
    OtherWeights,
    ServiceError,
    SteelyardError,
    UnknownModel,
    UnknownRoute,
)
from steelyard.schema import CandidateScore, ScoreOutcomesResponse, ScoreStepsResponse, StepScores
from steelyard.trainers.grouping import Group
from steelyard.trainers.options import Options
from steelyard.trainers.samples import SampleScore

Answer: TypeAlias = ScoreStepsResponse | ScoreOutcomesResponse
Placed: TypeAlias = dict[int, SampleScore]
# They are wrong for every group alike: a run that went on would learn nothing and not say so.
_ENDS_THE_RUN = (InvalidKey, NotAllowed, UnknownModel, UnknownRoute, OtherWeights)
_FIRST_S, _LONGEST_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Make this call with either client; answered with what it returned, or the error that it raised."""

    call: Callable[[Client | AsyncClient], Answer | Coroutine[Any, Any, Answer]]


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


Plan: TypeAlias = Generator[Ask | Pause, Answer | SteelyardError | None, Placed]


def plan(group: Group, options: Options, draw: Callable[[], float]) -> Plan:
    """What becomes of each sample of the group, by its place; `draw` is uniform in [0, 1), for the jitter.

    Raises InvalidCall for a question that the kind of model cannot take, and the errors that end the run.
    """
    ask = _ask(group, options)
    for tries in count():
        reply = yield ask
        assert reply is not None
        if isinstance(reply, SteelyardError):
            return (yield from _after(reply, group, options, draw))
        if tries >= options.more_tries or not any(result.retryable for result in reply.results):
            return _place(group, map(_score_of, reply.results))
        yield Pause(draw() * min(_LONGEST_S, _FIRST_S * 2**tries))
    raise AssertionError("unreachable")


def _after(failure: SteelyardError, group: Group, options: Options, draw: Callable[[], float]) -> Plan:
    if isinstance(failure, _ENDS_THE_RUN):
        raise failure
    if len(group.candidates) > 1 and _may_be_one_response(failure):
        one, other = group.halves()
        return (yield from plan(one, options, draw)) | (yield from plan(other, options, draw))
    unscored = SampleScore(_status_of(failure), detail=str(failure))
    return _place(group, [unscored] * len(group.candidates))


def _may_be_one_response(failure: SteelyardError) -> bool:
    """Whether a response may be what its whole group is refused for: its neighbours keep their scores."""
    return isinstance(failure, InvalidRequest | BodyTooLarge | InvalidCall) and not isinstance(failure, InvalidPicture)


def _ask(group: Group, options: Options) -> Ask:
    """One call, bound to one id: asked again, it computes only what has no score yet."""
    call_id = uuid.uuid4().hex
    if options.kind == "steps":
        return _ask_steps(group, options, call_id)
    messages, images = group.question.as_messages()
    texts = [text_of(candidate) for candidate in group.candidates]
    return Ask(
        lambda client: client.score_outcomes(
            messages,
            texts,
            images,
            model=options.model,
            weights=options.weights,
            max_tiles=options.max_tiles,
            control_tokens=options.control_tokens,
            priority=options.priority,
            deadline_ms=options.deadline_ms,
            id=call_id,
        )
    )


def _ask_steps(group: Group, options: Options, call_id: str) -> Ask:
    text = group.question.as_text()
    return Ask(
        lambda client: client.score_steps(
            text,
            group.question.pictures,
            group.candidates,
            model=options.model,
            weights=options.weights,
            mode=options.mode,
            max_steps=options.max_steps,
            max_tiles=options.max_tiles,
            aggregate=options.aggregate,
            control_tokens=options.control_tokens,
            priority=options.priority,
            deadline_ms=options.deadline_ms,
            id=call_id,
        )
    )


def _score_of(result: CandidateScore) -> SampleScore:
    if not isinstance(result, StepScores):
        return SampleScore(result.status, result.score, detail=result.detail)
    scores, spans = tuple(result.step_scores or ()), tuple(result.step_spans or ())
    return SampleScore(result.status, result.score, scores, spans, result.detail)


def _place(group: Group, scores: Iterable[SampleScore]) -> Placed:
    return {place: score for places, score in zip(group.places, scores, strict=True) for place in places}


def _status_of(failure: SteelyardError) -> str:
    """The server's code, else the error's name in its manner: `ConnectionFailed` is `connection_failed`."""
    if isinstance(failure, ServiceError):
        return failure.code or f"status_{failure.status}"
    name = type(failure).__name__
    return name[0].lower() + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name[1:])
