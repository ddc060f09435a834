"""From a request for step scores to its answer: permit, encode, submit, assemble."""

import asyncio
import dataclasses
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import steelyard
from models.visual_prm.steps import SEPARATOR
from service.encoding import ReadyGroup, StepModel, ready_group
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    OtherWeights,
    Overloaded,
    Unavailable,
    UnknownModel,
)
from service.flight import Flight
from service.images import ImageStore
from service.job import Delivery, EngineModel, Job, Outcome
from service.metrics import Metrics
from service.queue import Queue, QueueUnavailable
from service.replay import ReplayStore
from service.settings import Settings
from steelyard.schema import (
    Aggregate,
    Provenance,
    ScoredGroup,
    ScoreStepsRequest,
    StepScores,
    Timings,
    Usage,
)

_RANK = {"online": 0, "train": 1, "batch": 2}
_DEADLINE_S = {"online": 30.0, "train": 900.0, "batch": None}
# After its deadline a group is answered by the engine with `expired`; only then is the engine given up.
GRACE_S = 10.0

_AGGREGATE: dict[Aggregate, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "min": min,
    "max": max,
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "sum": sum,
}


@dataclasses.dataclass(slots=True)
class _Costs:
    """What the deliveries of one group add up to."""

    computed_tokens: int = 0
    tiles: int = 0
    queue_ms: float = 0.0
    forward_ms: float = 0.0

    def add(self, delivery: Delivery) -> None:
        self.computed_tokens += delivery.computed_tokens
        self.tiles += delivery.tiles
        self.queue_ms = max(self.queue_ms, delivery.queue_ms)
        self.forward_ms += delivery.forward_ms


class Scoring:
    """Scores groups for callers; one a gateway."""

    def __init__(self, settings: Settings, queue: Queue, images: ImageStore, metrics: Metrics) -> None:
        self._settings = settings
        self._queue = queue
        self._images = images
        self._metrics = metrics
        self._models: dict[str, StepModel] = {}
        self._loaded: dict[str, EngineModel] = {}
        self._replay = ReplayStore(ttl_s=settings.replay_s, budget_bytes=settings.replay_bytes)
        self._pool = ThreadPoolExecutor(settings.encode_threads, thread_name_prefix="encode")
        self._waiting = 0
        self.draining = False

    def serve(self, models: Mapping[str, StepModel], loaded: Sequence[EngineModel]) -> None:
        """From now on these models are there."""
        self._loaded = {model.name: model for model in loaded}
        self._models = dict(models)

    @property
    def models(self) -> Mapping[str, StepModel]:
        return self._models

    def open(self, request: ScoreStepsRequest, caller: str) -> Flight:
        """Accept a group, or find the same one by its id. Raises ServiceError when it is refused at once."""
        model = self._model(request)
        self._check_counts(request)
        key = None if request.id is None else (caller, request.id)
        flight = None if key is None else self._replay.find(key, request)
        known: dict[int, StepScores] = {}
        if flight is not None:
            known = {result.index: result for result in flight.results if not result.retryable}
            if not flight.landed or len(known) == len(request.candidates):
                self._metrics.replayed.inc()
                return flight
        if self._waiting >= self._settings.max_waiting:
            raise Overloaded(f"{self._waiting} groups are waiting already; try again shortly")
        flight = Flight()
        if key is not None:
            self._replay.keep(key, request, flight)
        self._count_waiting(1)
        flight.start(lambda started: self._score(started, request, model, known), lambda: self._count_waiting(-1))
        return flight

    def provenance(self, model: StepModel) -> Provenance:
        loaded = self._loaded[model.name]
        return Provenance(
            model=model.name,
            family=model.family,
            revision=model.revision,
            weights=loaded.weights,
            tokenizer=model.tokenizer_digest,
            dtype=loaded.dtype,
            batch_invariant=False,
            version=steelyard.__version__,
        )

    async def oracle(self, request: ScoreStepsRequest) -> list[StepScores]:
        """The scores of a group by the plain unshared path."""
        return await self._results(request, plain=True)

    async def served(self, request: ScoreStepsRequest) -> list[StepScores]:
        """The scores of a group by the path that callers' groups take, past the permits."""
        return await self._results(request, plain=False)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _results(self, request: ScoreStepsRequest, *, plain: bool) -> list[StepScores]:
        flight = Flight()
        await self._score(flight, request, self._model(request), {}, plain=plain)
        return sorted(flight.results, key=lambda result: result.index)

    def _model(self, request: ScoreStepsRequest) -> StepModel:
        if self.draining or not self._models:
            raise Unavailable("the server is stopping" if self.draining else "the models are still loading")
        names = ", ".join(self._models)
        if request.model is None and len(self._models) > 1:
            raise InvalidRequest(f"model: several process reward models are served, name one of {names}")
        name = request.model or next(iter(self._models))
        if name not in self._models:
            raise UnknownModel(f"no process reward model named {name!r} is served here; there is {names}")
        digest = self._loaded[name].weights
        if request.weights not in (None, digest):
            raise OtherWeights(f"{name} is served with the weights {digest}, not {request.weights}")
        return self._models[name]

    def _check_counts(self, request: ScoreStepsRequest) -> None:
        settings = self._settings
        if len(request.candidates) > settings.max_candidates:
            raise InvalidRequest(f"candidates: {len(request.candidates)}, the limit is {settings.max_candidates}")
        if len(request.images) > settings.max_images:
            raise InvalidRequest(f"images: {len(request.images)}, the limit is {settings.max_images}")
        for index, candidate in enumerate(request.candidates):
            steps = len(candidate) if isinstance(candidate, list) else candidate.count(SEPARATOR) + 1
            if steps > settings.max_candidate_steps:
                raise InvalidRequest(f"candidates.{index}: {steps} steps, the limit is {settings.max_candidate_steps}")

    async def _score(
        self,
        flight: Flight,
        request: ScoreStepsRequest,
        model: StepModel,
        known: Mapping[int, StepScores],
        *,
        plain: bool = False,
    ) -> ScoredGroup:
        try:
            return await self._answer(flight, request, model, known, plain=plain)
        except asyncio.CancelledError:
            self._metrics.abandoned.inc()
            raise

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self._metrics.waiting.set(self._waiting)

    async def _answer(
        self,
        flight: Flight,
        request: ScoreStepsRequest,
        model: StepModel,
        known: Mapping[int, StepScores],
        *,
        plain: bool,
    ) -> ScoredGroup:
        started, submitted = time.perf_counter(), time.time()
        group = await asyncio.get_running_loop().run_in_executor(
            self._pool, ready_group, model, request, self._images, frozenset(known)
        )
        encoded = time.perf_counter()
        self._metrics.groups.labels(model.name, request.priority).inc()
        for result in known.values():
            flight.publish(result)
        for result in group.refused:
            self._publish(flight, model, result)
        costs = _Costs()
        if group.candidates:
            job = _job(group, request, model.name, submitted, plain=plain)
            await self._collect(flight, request, model, group, job, costs)
        elapsed_ms = (time.perf_counter() - started) * 1000
        timings = Timings(
            encode=round((encoded - started) * 1000, 3),
            queue=round(costs.queue_ms, 3),
            forward=round(costs.forward_ms, 3),
            total=round(elapsed_ms, 3),
        )
        usage = self._account(flight, model, group, costs, encoded - started)
        ranking = _ranking(flight.results)
        return ScoredGroup(
            id=request.id or uuid.uuid4().hex,
            model=model.name,
            best=ranking[0] if ranking else None,
            ranking=ranking,
            usage=usage,
            provenance=self.provenance(model),
            timings_ms=timings,
        )

    async def _collect(
        self,
        flight: Flight,
        request: ScoreStepsRequest,
        model: StepModel,
        group: ReadyGroup,
        job: Job,
        costs: _Costs,
    ) -> None:
        """Publish outcomes as they come, until each candidate has one or the engine is given up."""
        limit_s = None if job.deadline is None else job.deadline + GRACE_S - time.time()
        try:
            async with asyncio.timeout(limit_s), aclosing(self._queue.submit(job, group.blobs)) as deliveries:
                async for delivery in deliveries:
                    costs.add(delivery)
                    for outcome in delivery.outcomes:
                        for result in _results_of(outcome, group, request.aggregate):
                            self._publish(flight, model, result)
        except TimeoutError:
            raise DeadlineExceeded("no engine answered before the deadline; nothing was scored") from None
        except QueueUnavailable as error:
            raise Unavailable(str(error)) from None

    def _publish(self, flight: Flight, model: StepModel, result: StepScores) -> None:
        self._metrics.candidates.labels(model.name, result.status).inc()
        flight.publish(result)

    def _account(self, flight: Flight, model: StepModel, group: ReadyGroup, costs: _Costs, encode_s: float) -> Usage:
        scored = [result.index for result in flight.results if result.status == "ok"]
        prompt = sum(group.prompt_tokens.get(index, 0) for index in scored)
        cached = max(0, prompt - costs.computed_tokens)
        self._metrics.encode_seconds.observe(encode_s)
        self._metrics.queue_seconds.observe(costs.queue_ms / 1000)
        self._metrics.forward_seconds.observe(costs.forward_ms / 1000)
        self._metrics.tokens.labels(model.name, "computed").inc(costs.computed_tokens)
        self._metrics.tokens.labels(model.name, "cached").inc(cached)
        self._metrics.tiles.labels(model.name).inc(costs.tiles)
        return Usage(
            prompt_tokens=prompt,
            computed_tokens=costs.computed_tokens,
            cached_tokens=cached,
            tiles=costs.tiles,
        )


def _job(group: ReadyGroup, request: ScoreStepsRequest, model: str, submitted: float, *, plain: bool) -> Job:
    default_s = _DEADLINE_S[request.priority]
    limit_s = default_s if request.deadline_ms is None else request.deadline_ms / 1000
    return Job(
        id=uuid.uuid4().hex,
        model=model,
        rank=_RANK[request.priority],
        submitted=submitted,
        deadline=None if limit_s is None else submitted + limit_s,
        prefix=group.prefix,
        candidates=group.candidates,
        pictures=group.pictures,
        plain=plain,
    )


def _results_of(outcome: Outcome, group: ReadyGroup, aggregate: Aggregate) -> list[StepScores]:
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


def _ranking(results: Sequence[StepScores]) -> list[int]:
    """Best first; ties in the caller's order."""
    scored = sorted((r.index, r.score) for r in results if r.score is not None)
    return [index for index, _ in sorted(scored, key=lambda pair: -pair[1])]
