"""From a request for scores to its answer: permit, encode, submit, publish."""

import asyncio
import dataclasses
import hashlib
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Literal

from service.admission import Permit
from service.answer import Costs, rank
from service.catalogue import Catalogue
from service.cost import estimate
from service.entrance import Entrance
from service.errors import DeadlineExceeded, IdReused, OtherWeights, Overloaded, ServiceError, Unavailable
from service.flight import Flight
from service.gate import Gate
from service.gateway_model import GatewayModel, ReadyGroup
from service.images import ImageStore
from service.job import Delivery, Job
from service.limits import check_counts
from service.metrics import Metrics
from service.opening import opening_of
from service.queue import JobQueue, QueueFull, QueueUnavailable, Superseded
from service.replay import ReplayStore
from service.settings import Settings
from steelyard.schema import CandidateScore, Provenance, ScoredGroup, ScoreRequest, Status, Timings

_RANK = {"online": 0, "train": 1, "batch": 2}
_DEADLINE_S = {"online": 30.0, "train": 900.0, "batch": None}
_OBJECT: Mapping[str, Literal["step_scores", "outcome_scores"]] = {"steps": "step_scores", "outcome": "outcome_scores"}
# After its deadline a group is answered by the engine with `expired`; only then is the engine given up.
GRACE_S = 10.0


# Caller, id and fingerprint of the body → whether no other body has that id. Raises QueueUnavailable.
Claim = Callable[[str, str, bytes], Awaitable[bool]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    """One group on its way: `known` are results of the same id that need no second forward by the weights that gave
    them. `model` and `provenance` are those of its encoding, and may be others after it.
    """

    request: ScoreRequest
    model: GatewayModel
    flight: Flight
    metrics: Metrics
    provenance: Provenance
    known: Mapping[int, CandidateScore] = dataclasses.field(default_factory=dict)
    known_weights: str | None = None
    plain: bool = False

    def publish(self, result: CandidateScore) -> None:
        self.metrics.candidates.labels(self.model.name, result.status).inc()
        self.flight.publish(result)


class Scoring:
    """Scores groups for callers; one a gateway. `claim` asks the other gateways about an id."""

    def __init__(
        self,
        settings: Settings,
        queue: JobQueue,
        images: ImageStore,
        metrics: Metrics,
        catalogue: Catalogue,
        claim: Claim | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._images = images
        self._metrics = metrics
        self._claim = claim
        self.catalogue = catalogue
        self._replay = ReplayStore(ttl_s=settings.replay_s, budget_bytes=settings.replay_bytes)
        # Threads of their own, so that a flood of training groups never stands before an online one.
        self._online_pool = ThreadPoolExecutor(settings.encode_threads, thread_name_prefix="encode online")
        self._pool = ThreadPoolExecutor(settings.encode_threads, thread_name_prefix="encode")
        self._entrance = Entrance(settings, metrics)
        self.gate = Gate()
        self.draining = False

    def is_idle(self) -> bool:
        """Whether no group is being scored."""
        return self._entrance.is_empty

    def open(self, request: ScoreRequest, caller: str) -> Flight:
        """Accept a group, or find the same one by its id.

        Attend the flight before anything is awaited: one that nobody attends may be dropped. Raises ServiceError
        when the group is refused at once.
        """
        self._check_draining()
        model = self.catalogue.find(request)
        check_counts(request, self._settings)
        key = None if request.id is None else (caller, request.id)
        flight = self._replay.find(key, _fingerprint(request)) if key is not None and key in self._replay else None
        known: dict[int, CandidateScore] = {}
        if flight is not None:
            known = {result.index: result for result in flight.results if not result.retryable}
            if not flight.landed or len(known) == request.size:
                self._metrics.replayed.inc()
                return flight
        if not self.gate.held:
            self.catalogue.choose(request)
        permit = self._entrance.enter(estimate(request, model, known), request.priority, caller)
        known_weights = None if flight is None else flight.weights
        flight, provenance = Flight(), self.catalogue.provenance(model)
        call = _Call(request, model, flight, self._metrics, provenance, known, known_weights)
        flight.start(lambda: self._score_claimed(call, key), lambda: self._end(call, key, permit))
        if key is not None:
            self._replay.start(key, _fingerprint(request), flight)
        return flight

    def open_together(self, requests: Sequence[ScoreRequest], caller: str) -> list[Flight]:
        """Accept several groups or none, as `open` does each; a refusal costs the caller nothing of its quota."""
        flights: list[Flight] = []
        try:
            for request in requests:
                # One by one: those before a refusal have to be known.
                flights.append(self.open(request, caller))  # noqa: PERF401
        except ServiceError as error:
            for flight in flights:
                flight.refuse(error)
            raise
        return flights

    async def oracle(self, request: ScoreRequest) -> list[CandidateScore]:
        """The scores of a group by the plain unshared path."""
        return await self._results(request, plain=True)

    async def served(self, request: ScoreRequest) -> list[CandidateScore]:
        """The scores of a group by the path that callers' groups take, past permits, limits and metrics."""
        return await self._results(request, plain=False)

    def close(self) -> None:
        for pool in (self._online_pool, self._pool):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _results(self, request: ScoreRequest, *, plain: bool) -> list[CandidateScore]:
        self._check_draining()
        model = dataclasses.replace(self.catalogue.choose(request), max_tokens=sys.maxsize)
        flight = Flight()
        call = _Call(request, model, flight, Metrics(), self.catalogue.provenance(model), plain=plain)
        try:
            await self._submit(call, await self._encode(call), time.monotonic(), Costs())
        except Superseded:
            raise Unavailable("other weights are being loaded") from None
        return sorted(flight.results, key=lambda result: result.index)

    def _check_draining(self) -> None:
        if self.draining:
            raise Unavailable("the server is stopping")

    def _end(self, call: _Call, key: tuple[str, str] | None, permit: Permit) -> None:
        flight = call.flight
        self._entrance.leave(permit, answered=flight.landed, refused=flight.failed and not flight.abandoned)
        if flight.abandoned:
            self._metrics.abandoned.inc()
        if key is not None:
            self._replay.end(key, flight)

    async def _score_claimed(self, call: _Call, key: tuple[str, str] | None) -> ScoredGroup:
        if key is not None and self._claim is not None:
            try:
                is_free = await self._claim(*key, _fingerprint(call.request))
            except QueueUnavailable as error:
                raise Unavailable(str(error)) from None
            if not is_free:
                raise IdReused(
                    f"the id {key[1]!r} was used for another body in the last {self._settings.replay_s:.0f} s"
                )
        return await self._score(call)

    async def _score(self, call: _Call) -> ScoredGroup:
        arrived, started = time.monotonic(), time.perf_counter()
        call, group, encode_s = await self._prepare(call, arrived)
        call.metrics.groups.labels(call.model.name, call.request.priority).inc()
        costs = Costs()
        while True:
            try:
                await self._submit(call, group, arrived, costs)
                break
            except Superseded:
                if costs.deliveries or call.known:
                    # No answer mixes the numbers of two models.
                    _give_up(call, group, "failed", "the weights were changed before the engine came to it")
                    break
            call, group, encode_s = await self._prepare(call, arrived)
        timings = Timings(
            encode=round(encode_s * 1000, 3),
            queue=round(costs.queue_ms, 3),
            forward=round(costs.forward_ms, 3),
            total=round((time.perf_counter() - started) * 1000, 3),
        )
        return self._summary(call, group, costs, timings)

    async def _prepare(self, call: _Call, arrived: float) -> tuple[_Call, ReadyGroup, float]:
        """The call encoded for the weights that are served in the end, and the seconds that it took."""
        limit_s = _limit_s(call.request)
        left_s = None if limit_s is None else max(0.0, arrived + limit_s - time.monotonic()) + GRACE_S
        try:
            async with asyncio.timeout(left_s):
                while True:
                    await self.gate.passed()
                    current = self._meant_now(call)
                    started = time.perf_counter()
                    group = await self._encode(current)
                    if not self.gate.held and self.catalogue.models[current.model.name] is current.model:
                        return current, group, time.perf_counter() - started
        except TimeoutError:
            # A thread that has begun cannot be stopped, but nobody has to wait for it.
            raise DeadlineExceeded("the deadline passed before the group was encoded; nothing was scored") from None

    def _meant_now(self, call: _Call) -> _Call:
        """The call for the weights that are served now. Raises OtherWeights."""
        model = self.catalogue.choose(call.request)
        provenance = self.catalogue.provenance(model)
        known = call.known if call.known_weights == provenance.weights else {}
        return dataclasses.replace(call, model=model, provenance=provenance, known=known)

    async def _encode(self, call: _Call) -> ReadyGroup:
        pool = self._online_pool if call.request.priority == "online" else self._pool
        skip = frozenset(call.known) | {result.index for result in call.flight.results}
        return await asyncio.get_running_loop().run_in_executor(
            pool, call.model.ready, call.request, self._images, skip
        )

    async def _submit(self, call: _Call, group: ReadyGroup, arrived: float, costs: Costs) -> None:
        """Publish what is known of the group, then outcomes as they come."""
        for result in call.known.values():
            call.flight.publish(result)
        for result in group.refused:
            call.publish(result)
        if group.candidates:
            await self._collect(call, group, _job(call, group, arrived), costs)

    async def _collect(self, call: _Call, group: ReadyGroup, job: Job, costs: Costs) -> None:
        """Until each candidate has an outcome or the engine is given up."""
        # A group whose deadline passed while it was encoded still gets the engine's word for it.
        limit_s = None if job.deadline is None else max(0.0, job.deadline - time.monotonic()) + GRACE_S
        try:
            async with asyncio.timeout(limit_s), aclosing(self._queue.submit(job, group.blobs)) as deliveries:
                async for delivery in deliveries:
                    _check_weights(call, delivery)
                    costs.add(delivery)
                    for outcome in delivery.outcomes:
                        for result in call.model.results(outcome, group, call.request):
                            call.publish(result)
        except TimeoutError:
            if not costs.deliveries:
                raise DeadlineExceeded("no engine answered before the deadline; nothing was scored") from None
            _give_up(call, group, "expired", "the deadline passed before the engine came to it")
        except QueueFull as error:
            raise Overloaded(str(error), error.retry_after_s) from None
        except QueueUnavailable as error:
            raise Unavailable(str(error)) from None

    def _summary(self, call: _Call, group: ReadyGroup, costs: Costs, timings: Timings) -> ScoredGroup:
        """All of the answer but its results, counted in the metrics."""
        usage, name = costs.usage(group), call.model.name
        call.metrics.encode_seconds.observe(timings.encode / 1000)
        call.metrics.queue_seconds.observe(timings.queue / 1000)
        call.metrics.forward_seconds.observe(timings.forward / 1000)
        call.metrics.tokens.labels(name, "computed").inc(usage.computed_tokens)
        call.metrics.tokens.labels(name, "cached").inc(usage.cached_tokens)
        call.metrics.tiles.labels(name).inc(usage.tiles)
        ranking = rank(call.flight.results)
        return ScoredGroup(
            id=call.request.id or uuid.uuid4().hex,
            object=_OBJECT[call.model.kind],
            model=name,
            best=ranking[0] if ranking else None,
            ranking=ranking,
            usage=usage,
            provenance=call.provenance.model_copy(update={"weights": costs.weights or call.provenance.weights}),
            timings_ms=timings,
        )


def _fingerprint(request: ScoreRequest) -> bytes:
    """Equal for equal requests, however their JSON is written."""
    return hashlib.sha256(request.model_dump_json().encode()).digest()


def _limit_s(request: ScoreRequest) -> float | None:
    """Seconds that the caller gives the group from its arrival on."""
    return _DEADLINE_S[request.priority] if request.deadline_ms is None else request.deadline_ms / 1000


def _job(call: _Call, group: ReadyGroup, arrived: float) -> Job:
    """The group as it crosses the queue; its deadline counts from its arrival, its wait from now."""
    request = call.request
    limit_s = _limit_s(request)
    return Job(
        id=uuid.uuid4().hex,
        model=call.model.name,
        rank=_RANK[request.priority],
        submitted=time.monotonic(),
        deadline=None if limit_s is None else arrived + limit_s,
        prefix=group.prefix,
        candidates=group.candidates,
        pictures=group.pictures,
        plain=call.plain,
        longest_shared=call.model.longest_shared,
        opening=opening_of(call.model.name, request, group),
    )


def _check_weights(call: _Call, delivery: Delivery) -> None:
    """A fleet may have been given others while the job waited. Raises OtherWeights and Superseded."""
    if delivery.weights in ("", call.provenance.weights):
        return
    if call.request.weights is not None:
        raise OtherWeights(f"{call.model.name} is served with the weights {delivery.weights} now")
    if call.known:
        raise Superseded


def _give_up(call: _Call, group: ReadyGroup, status: Status, detail: str) -> None:
    """Some candidates were answered, so the others get a status that says to try again."""
    answered = {result.index for result in call.flight.results}
    for index in sorted(index for places in group.places for index in places if index not in answered):
        call.publish(call.model.unscored(index, status, detail, retryable=True))
