"""Groups in, results out: the one seam between an evaluation and what it evaluates."""

from typing import Protocol

from evaluation.groups import Group, Settings, text_of
from evaluation.records import Result
from steelyard import AsyncClient
from steelyard.errors import (
    BadAnswer,
    InternalError,
    InvalidCall,
    InvalidRequest,
    SteelyardError,
    TooLarge,
    UnsupportedImage,
)
from steelyard.schema import CandidateScore, ServedModel, StepScores

# Refusals that are about the group itself: the next group may fare better.
_ABOUT_THE_GROUP = (InvalidCall, InvalidRequest, TooLarge, UnsupportedImage, InternalError)


class Scorer(Protocol):
    """Scores groups by one model."""

    @property
    def served(self) -> ServedModel:
        """The model and what exactly it is."""
        ...

    async def score(self, group: Group) -> tuple[Result, ...]:
        """One result a candidate. Raises SteelyardError when no group can be scored any more."""
        ...


class ServerScorer:
    """A model of a running server; a server that changes its weights under the run is an error."""

    def __init__(self, client: AsyncClient, served: ServedModel, settings: Settings) -> None:
        self.served = served
        self._client = client
        self._settings = settings

    async def score(self, group: Group) -> tuple[Result, ...]:
        try:
            results = await (self._steps(group) if self.served.kind == "steps" else self._outcomes(group))
        except _ABOUT_THE_GROUP as error:
            return _refused(group, error)
        for result, candidate in zip(results, group.candidates, strict=True):
            _check_steps(result, candidate)
        return results

    async def _steps(self, group: Group) -> tuple[Result, ...]:
        answer = await self._client.score_steps(
            group.question,
            group.images,
            group.candidates,
            model=self.served.name,
            weights=self.served.provenance.weights,
            max_tiles=self._settings.max_tiles,
            control_tokens=self._settings.control_tokens,
            priority="batch",
        )
        return tuple(_result(result) for result in answer.results)

    async def _outcomes(self, group: Group) -> tuple[Result, ...]:
        answer = await self._client.score_outcomes(
            [{"role": "user", "content": group.question}],
            [text_of(candidate) for candidate in group.candidates],
            group.images,
            model=self.served.name,
            weights=self.served.provenance.weights,
            max_tiles=self._settings.max_tiles,
            control_tokens=self._settings.control_tokens,
            priority="batch",
        )
        return tuple(_result(result) for result in answer.results)


def _result(found: CandidateScore) -> Result:
    steps = found.step_scores if isinstance(found, StepScores) else None
    return Result(
        status=found.status,
        score=found.score,
        step_scores=None if steps is None else tuple(steps),
        retryable=bool(found.retryable),
        detail=found.detail,
    )


def _refused(group: Group, error: SteelyardError) -> tuple[Result, ...]:
    """The whole call's refusal as every candidate's."""
    status = getattr(error, "code", None) or "invalid_call"
    result = Result(status=status, retryable=isinstance(error, InternalError), detail=str(error))
    return (result,) * len(group.candidates)


def _check_steps(result: Result, candidate: object) -> None:
    given = len(candidate) if isinstance(candidate, tuple) else None
    if result.step_scores is not None and given is not None and given != len(result.step_scores):
        raise BadAnswer(f"{given} steps were sent and {len(result.step_scores)} scores came back")
