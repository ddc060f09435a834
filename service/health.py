"""Whether the served models still give the scores that they gave at the start: the canary."""

import asyncio
import base64
import io
import time
from collections.abc import Sequence
from typing import TypedDict

from PIL import Image

from service.errors import ServiceError
from service.gateway_model import GatewayModel
from service.scoring import Scoring
from steelyard.schema import (
    CandidateScore,
    Message,
    Priority,
    ScoreOutcomesRequest,
    ScoreRequest,
    ScoreStepsRequest,
    StepScores,
)

# How far the served path may stand from the plain one, times 1 + |score|.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
_FRESH_S = 10.0
# So that many probes of a stuck engine do not queue up, each to wait in vain.
_REMEMBERED_S = 2.0
# A canary may take so long, and some times as long as it took at the start: a large model on a CPU is slow, not ill.
_PATIENCE_S = 10.0
_PATIENCE_FACTOR = 5.0
_A_DAY_MS = 86_400_000
# For a model that is loaded into a running server, whose callers wait meanwhile.
LEARNING_S = 600.0


class _Call(TypedDict):
    model: str
    priority: Priority
    max_tiles: int
    deadline_ms: int


class Unhealthy(Exception):
    """A canary did not come back as it should; the message says which and why."""


class Canaries:
    """One small group a model, scored by the plain path when it is loaded and by the served path ever after."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._expected: dict[str, list[CandidateScore]] = {}
        self._patience_s = float("inf")
        self._checked = float("-inf")
        self._failure: str | None = None
        self._failed = float("-inf")
        self._checking = asyncio.Lock()
        # The patience of the check under way, and why there is to be none.
        self._patience: asyncio.Timeout | None = None
        self._paused: str | None = None

    def pause(self, reason: str) -> None:
        """Begin no check until `resume`, and give up the one under way."""
        self._paused = reason
        if self._patience is not None:
            self._patience.reschedule(0.0)

    def resume(self) -> None:
        self._paused = None
        self.forget()

    async def learn(self) -> None:
        """Compute what is expected of each model, and check it once. Raises Unhealthy."""
        expected: dict[str, list[CandidateScore]] = {}
        for name in self._scoring.catalogue.models:
            try:
                expected[name] = await self._scoring.oracle(_canary(self._scoring.catalogue.models[name]))
            except ServiceError as error:
                raise Unhealthy(f"{name}: the canary could not be scored: {error}") from None
        async with self._checking:
            before = self._expected, self._patience_s
            self._expected, self._patience_s = expected, float("inf")
            started = time.monotonic()
            try:
                await self._check_all()
            except Unhealthy:
                self._expected, self._patience_s = before
                raise
            self._patience_s = _PATIENCE_S + _PATIENCE_FACTOR * (time.monotonic() - started)

    async def check(self) -> None:
        """Raises Unhealthy. An answer is good for some seconds, so that probes cost next to nothing."""
        if not self._expected:
            raise Unhealthy("the models are still loading")
        async with self._checking:
            if self._paused is not None:
                raise Unhealthy(self._paused)
            if time.monotonic() - self._checked < _FRESH_S:
                return
            if self._failure is not None and time.monotonic() - self._failed < _REMEMBERED_S:
                raise Unhealthy(self._failure)
            await self._check_all()

    async def _check_all(self) -> None:
        try:
            for name, expected in self._expected.items():
                await self._check(name, expected)
        except (Unhealthy, ServiceError) as error:
            self._failure, self._failed = str(error), time.monotonic()
            raise Unhealthy(self._failure) from None
        self._checked = time.monotonic()

    def forget(self) -> None:
        """The engine is another one now: what was known of the last counts for nothing."""
        self._checked = float("-inf")
        self._failure = None

    async def _check(self, name: str, expected: Sequence[CandidateScore]) -> None:
        try:
            async with asyncio.timeout(self._patience_s) as self._patience:
                found = await self._scoring.served(_canary(self._scoring.catalogue.models[name]))
        except TimeoutError:
            patience = f"{name}: the canary got no answer within {self._patience_s:.0f} s"
            raise Unhealthy(self._paused or patience) from None
        finally:
            self._patience = None
        tolerance = _TOLERANCE[self._scoring.catalogue.loaded[name].dtype]
        for one, other in zip(expected, found, strict=True):
            _compare(name, one, other, tolerance)


def _compare(name: str, expected: CandidateScore, found: CandidateScore, tolerance: float) -> None:
    if expected.score is None or found.score is None:
        raise Unhealthy(f"{name}: the canary was not scored: {found.detail or expected.detail}")
    for one, other in zip(_numbers(expected), _numbers(found), strict=True):
        # Written so that a NaN is never near enough.
        if not abs(one - other) <= tolerance * (1 + abs(one)):
            raise Unhealthy(f"{name}: the canary's score is {other:.6f}, the plain path's {one:.6f}")


def _numbers(result: CandidateScore) -> Sequence[float]:
    if isinstance(result, StepScores) and result.step_scores is not None:
        return result.step_scores
    return [] if result.score is None else [result.score]


def _canary(model: GatewayModel) -> ScoreRequest:
    """A picture with a gradient if it sees any, a question, and two candidates of different lengths."""
    images = [_gradient()] if model.max_tiles else []
    question = "Where is the picture brightest?"
    candidates = ["The picture shows a gradient.\n\nIt is brightest below.", "Above."]
    # How long it may take is this module's to say.
    call: _Call = {"model": model.name, "priority": "online", "max_tiles": 1, "deadline_ms": _A_DAY_MS}
    if model.kind == "steps":
        return ScoreStepsRequest(question=question, images=images, candidates=[*candidates], **call)
    asked = [Message(role="user", content=question)]
    return ScoreOutcomesRequest(messages=asked, images=images, candidates=candidates, **call)


def _gradient() -> str:
    ramp = Image.linear_gradient("L").resize((48, 32))
    file = io.BytesIO()
    Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
