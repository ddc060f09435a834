"""A scoring worker: what it takes from Redis, its own engine scores, and the result goes back."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from redis.exceptions import RedisError, ResponseError

from models.checkpoint import locate
from service.backoff import Backoff
from service.batching import ALONE_AFTER_DEATHS
from service.configuration import engine_configuration
from service.ending import end
from service.hand import Hand
from service.job import Job, Outcome
from service.orders import Orders
from service.queue import QueueUnavailable
from service.queue.connection import AWAY, hide_password
from service.queue.frames import EngineModelSource
from service.queue.memory import Hooks, MemoryQueue
from service.queue.redis_codec import Result, result_of
from service.queue.redis_worker import BEAT_S, GivenUp, RedisWorker, Taken
from service.settings import Settings
from service.worker_metrics import WorkerMetrics

log = logging.getLogger(__name__)

_LISTEN_S = 0.1
_RETRY_S = 1.0

Answer = TypeVar("Answer")


class Worker:
    """One engine process and its place in a fleet. `on_beat` is called whenever Redis has heard of it."""

    def __init__(
        self, settings: Settings, on_beat: Callable[[], None], engine_module: str = "service.engine_process"
    ) -> None:
        self._settings = settings
        self._on_beat = on_beat
        self._redis = RedisWorker(
            settings.queue,
            list(settings.models),
            result_ms=int(settings.result_s * 1000),
            result_bytes=settings.result_bytes,
            steal_ms=settings.steal_ms,
        )
        self._hand = Hand(settings.batch_tokens)
        sources = tuple(
            EngineModelSource(name, str(locate(source).directory)) for name, source in settings.models.items()
        )
        self._local = MemoryQueue(
            engine_configuration(settings, sources),
            settings.log_level,
            lambda: None,
            engine_module,
            hooks=Hooks(self._redis.blob, self._begin, self._blame),
        )
        self._orders = Orders(
            self._redis,
            self._local,
            self._hand,
            sources,
            batch_invariant=settings.batch_invariant,
            beat=self._say_alive,
        )
        self._metrics = WorkerMetrics()
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._strays: set[str] = set()

    @property
    def name(self) -> str:
        """By which Redis knows it."""
        return self._redis.name

    @property
    def is_awake(self) -> bool:
        """Whether it takes jobs."""
        return self._orders.may_take

    def stop(self) -> None:
        """Take nothing more; what is in hand is finished, or given back when that takes too long."""
        self._stopping.set()
        self._hand.changed.set()

    async def run(self) -> None:
        """Until it is told to stop. Raises EngineStartError, OtherFleet, and SettingsError for a port in use."""
        loops: list[asyncio.Task[None]] = []
        if self._settings.metrics_port:
            self._metrics.serve(self._settings.host, self._settings.metrics_port)
        try:
            # From the first second on, so that no order passes a worker by that is still loading.
            loops = [asyncio.create_task(self._beat())]
            await self._patiently(self._orders.start)
            await self._patiently(self._say_alive)
            log.info("%s takes jobs from %s", self._redis.name, hide_password(self._settings.queue))
            loops += [asyncio.create_task(self._take()), asyncio.create_task(self._orders.follow())]
            stopping = asyncio.create_task(self._stop_when_told())
            done, _ = await asyncio.wait((*loops, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            for task in done:
                task.result()
        finally:
            await end([*loops, *self._running])
            await self._leave()

    async def _stop_when_told(self) -> None:
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                await self._hand.emptied()

    async def _leave(self) -> None:
        if self._hand.jobs:
            log.warning("%d jobs go back to the others", len(self._hand))
            with contextlib.suppress(*AWAY, RedisError):
                await self._redis.give_back(self._hand.jobs)
        await self._redis.close()
        await self._local.close()

    async def _say_alive(self) -> list[str]:
        """Returns the workers that are dead for certain."""
        dead = await self._redis.beat(self._orders.standing())
        if self._orders.is_settled:
            await self._redis.register(self._orders.loaded(), self._orders.generation)
        return dead

    async def _beat(self) -> None:
        """Let the others know that this one lives, and put back what the dead had in hand."""
        backoff = Backoff()
        while True:
            try:
                dead = await self._say_alive()
                self._on_beat()
                self._count()
                await self._settle()
                for worker in dead:
                    self._metrics.reclaimed.inc()
                    for job in await self._redis.reclaim(worker, ALONE_AFTER_DEATHS):
                        await self._bury(job)
            except AWAY as error:
                log.error("Redis does not answer: %s", error)
                await backoff.wait()
                continue
            backoff = Backoff()
            await asyncio.sleep(BEAT_S)

    def _count(self) -> None:
        self._metrics.in_hand.set(len(self._hand))
        self._metrics.engine_restarts.set(self._local.restarts)
        self._metrics.caches.counts = self._local.counts

    async def _settle(self) -> None:
        """Give back what Redis believes to be in hand here and is not: the answer to a `take` was lost."""
        strays = await self._redis.in_hand() - set(self._hand.jobs)
        # Twice in a row: one that was taken this moment is on its way.
        if lost := strays & self._strays:
            log.warning("%d jobs were taken without a word: they go back", len(lost))
            await self._redis.give_back(lost)
        self._strays = strays - lost

    async def _take(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            self._hand.changed.clear()
            tokens, jobs = self._hand.room
            if not self._orders.may_take:
                # What the order was is found out by then; a beat brings the next.
                await asyncio.sleep(_LISTEN_S)
                continue
            if not tokens or not jobs:
                await self._hand.changed.wait()
                continue
            try:
                taken = await self._redis.take(tokens, jobs, is_idle=not len(self._hand))
                if not taken:
                    await self._redis.listen(_LISTEN_S)
            except AWAY:
                await backoff.wait()
                continue
            except ResponseError as error:
                # A Redis that lost its data has no streams; the next beat makes them.
                log.warning("no jobs could be taken: %s", error)
                await backoff.wait()
                continue
            backoff = Backoff()
            await self._start(taken)

    async def _start(self, taken: list[Taken]) -> None:
        """What may have killed two workers runs alone, in an engine that has run nothing else."""
        for one in taken:
            self._hand.put(one.job.id, one.cost)
            if one.job.deaths < ALONE_AFTER_DEATHS:
                task = asyncio.create_task(self._run(one.job))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        for one in taken:
            if one.job.deaths >= ALONE_AFTER_DEATHS:
                await asyncio.gather(*self._running)
                log.warning("job %s has seen %d workers die: it runs alone", one.job.id, one.job.deaths)
                await self._local.sleep()
                await self._local.wake()
                await self._run(one.job)

    async def _run(self, job: Job) -> None:
        """Score a job and bring its result to Redis, however long that is away."""
        try:
            async with aclosing(self._local.submit(job, {})) as arriving:
                deliveries = [delivery async for delivery in arriving]
            result = result_of(deliveries, self._weights(job.model))
            why = next((o.detail or o.status for o in result.outcomes if _is_dead(o)), "")
            await self._patiently(lambda: self._redis.deliver(job.id, result, why))
            self._metrics.delivered.inc()
            self._metrics.dead_letters.inc(bool(why))
        except QueueUnavailable as error:
            log.warning("job %s goes back to the others: %s", job.id, error)
            await self._patiently(lambda: self._redis.give_back([job.id]))
            await asyncio.sleep(_RETRY_S)
        finally:
            self._hand.drop(job.id)

    async def _bury(self, given_up: GivenUp) -> None:
        """Answer a job that nobody survives."""
        job, deaths = given_up.job, given_up.deaths
        detail = f"its worker died {deaths} times with this group in hand"
        log.error("job %s is a dead letter: %s", job.id, detail)
        outcomes = tuple(Outcome(c, "failed", detail=detail, retryable=False) for c in job.left)
        result = Result(outcomes, 0, 0, 0.0, 0.0, self._weights(job.model))
        await self._redis.deliver(job.id, result, detail)
        self._metrics.dead_letters.inc()

    async def _patiently(self, verb: Callable[[], Awaitable[Answer]]) -> Answer:
        backoff = Backoff()
        while True:
            try:
                return await verb()
            except AWAY as error:
                log.error("Redis does not answer: %s", error)
                await backoff.wait()

    def _begin(self, jobs: Sequence[str]) -> None:
        self._hand.begin(jobs)
        self._aside(self._redis.began(jobs))

    def _blame(self, job: str, deaths: int) -> None:
        self._aside(self._redis.blame(job, deaths))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(*AWAY, RedisError):
                await work

        task = asyncio.create_task(quietly())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _weights(self, model: str) -> str:
        return next(one.weights for one in self._local.models() if one.name == model)


def _is_dead(outcome: Outcome) -> bool:
    """Whether nobody should try it again: it has killed too many."""
    return outcome.status == "failed" and not outcome.retryable
