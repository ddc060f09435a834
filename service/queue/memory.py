"""The default queue: this gateway's memory, and one engine process at the other end of a pipe.

Every accepted job is kept here until each of its candidates has an outcome, so a death of the engine loses
nothing: it is started again and the jobs are handed to it once more.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import msgspec

from service.batching import ALONE_AFTER_DEATHS
from service.engine_child import EngineChild
from service.engine_counts import EngineCounts
from service.job import Delivery, EngineModel, Job, Outcome
from service.queue import EngineDied, EngineStartError, QueueUnavailable, Superseded
from service.queue.frames import (
    Began,
    Blob,
    Configure,
    Counted,
    Delivered,
    EngineModelSource,
    Fetch,
    Loading,
    Ready,
    StartFailed,
    Stop,
    Submit,
    ToGateway,
    Withdraw,
)

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 30.0
_WORTH_REPORTING_BYTES = 2**28
_DRAIN_S = 120.0
_STOPPING = "the server is stopping"


@dataclasses.dataclass(slots=True)
class _Ticket:
    """An accepted job, what is still unknown of it, and where its deliveries go."""

    job: Job
    blobs: Mapping[str, bytes]
    pending: set[int]
    deliveries: asyncio.Queue[Delivery | QueueUnavailable | Superseded]

    @property
    def untouched(self) -> bool:
        return len(self.pending) == len(self.job.candidates)

    def job_left(self) -> Job:
        """The job without what has been delivered: nothing is computed twice."""
        done = set(range(len(self.job.candidates))) - self.pending
        return dataclasses.replace(self.job, done=tuple(sorted(done)))


async def _nothing(digest: str) -> bytes | None:
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Hooks:
    """What a queue before this one wants to know and has to give.

    `fetch` finds a picture's bytes that no job brought; `on_begin` hears which jobs are in the forward that starts,
    `on_death` how many engine processes have died with a job in hand.
    """

    fetch: Callable[[str], Awaitable[bytes | None]] = _nothing
    on_begin: Callable[[Sequence[str]], None] = lambda jobs: None
    on_death: Callable[[str, int], None] = lambda job, deaths: None


class MemoryQueue:
    """A Queue over one engine process, which it starts, feeds, and starts again when it dies.

    `drain_s` is how long a sleep or a reload waits for the forward in hand; its jobs are run again after that.
    """

    def __init__(
        self,
        configure: Configure,
        log_level: str,
        on_engine: Callable[[], None],
        engine_module: str,
        drain_s: float = _DRAIN_S,
        *,
        hooks: "Hooks | None" = None,
    ) -> None:
        self._engine_module = engine_module
        self._configure = configure
        self._log_level = log_level
        self._on_engine = on_engine
        self._hooks = hooks or Hooks()
        self._fetching: set[asyncio.Task[None]] = set()
        self._drain_s = drain_s
        # The process from its first second to its last, and the one of them that is ready.
        self._process: EngineChild | None = None
        self._child: EngineChild | None = None
        self._models: tuple[EngineModel, ...] = ()
        # What the next engine must have loaded; nothing before the first and when others are to be served.
        self._expected: tuple[EngineModel, ...] = ()
        self._tickets: dict[str, _Ticket] = {}
        self._blobs: dict[str, bytes] = {}
        self._blob_uses: Counter[str] = Counter()
        self._in_hand: set[str] = set()
        self._running: asyncio.Task[None] | None = None
        # One sleep, wake or reload at a time.
        self._changing = asyncio.Lock()
        self._asleep = self._resting = self._closing = False
        self._news = asyncio.Event()
        self._trouble: str | None = None
        self.restarts = 0
        # What the engine said last of its caches; a new engine starts from nothing.
        self.counts: EngineCounts | None = None
        # What the engine is doing before it is ready, for people.
        self.progress = "the engine process is starting"

    def models(self) -> Sequence[EngineModel]:
        return self._models

    @property
    def batch_invariant(self) -> bool:
        return self._configure.batch_invariant

    async def start(self) -> None:
        """Returns when the models are loaded. Raises EngineStartError with a line for the operator."""
        await self._rise()

    async def close(self) -> None:
        """Stop the engine. Jobs that are still waiting are turned away: drain first."""
        self._closing = True
        await self._end()
        for ticket in self._unanswered():
            self._turn_away(ticket, QueueUnavailable(_STOPPING))

    async def sleep(self) -> None:
        async with self._changing:
            self._asleep, self._trouble = True, None
            await self._rest()
            self.counts = None

    async def wake(self) -> None:
        async with self._changing:
            if self._asleep:
                await self._rise()
                self._asleep = False

    async def reload(self, models: Sequence[EngineModelSource]) -> None:
        async with self._changing:
            for ticket in self._unanswered():
                if ticket.untouched and ticket.job.id not in self._in_hand:
                    self._turn_away(ticket, Superseded())
            if not self._asleep:
                await self._settle()
                await self._rest()
            for ticket in self._unanswered():
                self._turn_away(ticket, Superseded())
            configure, expected = self._configure, self._expected
            self._configure, self._expected = msgspec.structs.replace(configure, models=tuple(models)), ()
            if not self._asleep:
                await self._rise_with(configure, expected)

    async def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        if self._closing:
            raise QueueUnavailable(_STOPPING)
        if self._trouble is not None or not self._models:
            raise QueueUnavailable(self._trouble or self.progress)
        ticket = _Ticket(job, blobs, set(range(len(job.candidates))), asyncio.Queue())
        self._tickets[job.id] = ticket
        self._keep(blobs)
        try:
            self._send(job)
            # Several may have come since the last was taken, the one that answers all among them.
            while ticket.pending or not ticket.deliveries.empty():
                delivery = await ticket.deliveries.get()
                if isinstance(delivery, Exception):
                    raise delivery
                yield delivery
        finally:
            self._forget(ticket)

    def _forget(self, ticket: _Ticket) -> None:
        if self._tickets.pop(ticket.job.id, None) is None:
            return
        self._in_hand.discard(ticket.job.id)
        self._drop(ticket.blobs)
        self._news.set()
        if ticket.pending and self._child is not None:
            self._child.send(Withdraw(ticket.job.id))

    def _turn_away(self, ticket: _Ticket, why: QueueUnavailable | Superseded) -> None:
        self._forget(ticket)
        ticket.deliveries.put_nowait(why)

    def _unanswered(self) -> list[_Ticket]:
        return [ticket for ticket in self._tickets.values() if ticket.pending]

    def _send(self, job: Job) -> None:
        if self._child is not None:
            self._child.send(Submit(job))

    def _keep(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs |= blobs
        self._blob_uses.update(blobs.keys())

    def _drop(self, blobs: Mapping[str, bytes]) -> None:
        for digest in blobs:
            self._blob_uses[digest] -= 1
            if not self._blob_uses[digest]:
                del self._blob_uses[digest], self._blobs[digest]

    async def _settle(self) -> None:
        """Until every job that was begun has its answer, or no engine is there to give it."""
        while self._unanswered() and self._trouble is None and not self._closing:
            self._news.clear()
            await self._news.wait()

    async def _rest(self) -> None:
        """End the engine, after the forward in hand unless that takes too long."""
        self._resting = True
        if self._child is not None and self._running is not None:
            self._child.send(Stop())
            _, late = await asyncio.wait({self._running}, timeout=self._drain_s)
            if late:
                log.warning("the engine has not finished its forward in %.0f s: it is run again", self._drain_s)
                # They have killed nobody.
                self._in_hand.clear()
        await self._end()

    async def _end(self) -> None:
        """No engine process is there when this returns, and none will be started."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._running = None
        if self._process is not None:
            await self._process.stop()
            self._process = None
        self._blame()

    async def _rise(self, *, persevere: bool = False) -> None:
        """Start an engine, and another whenever one dies.

        Raises EngineStartError when the first cannot be had; with `persevere`, others are tried all the same.
        """
        if self._closing:
            raise EngineDied(_STOPPING)
        self._resting = False
        started = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._supervise(started, persevere), name="engine supervisor")
        await asyncio.wait({started, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise EngineDied(_STOPPING)
        started.result()

    async def _rise_with(self, before: Configure, expected: tuple[EngineModel, ...]) -> None:
        """Start an engine for other models, or else for those before. Raises EngineStartError in the second case."""
        try:
            await self._rise()
        except EngineStartError:
            self._configure, self._expected = before, expected
            with contextlib.suppress(EngineStartError):
                await self._rise(persevere=True)
            raise

    async def _supervise(self, started: asyncio.Future[None], persevere: bool) -> None:
        """Keep an engine running, whatever ends it, until it is to rest or a first start fails."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            was_ready, ending = await self._live_once(started)
            cause = str(ending)
            self._blame()
            if self._resting:
                return
            if not started.done():
                started.set_exception(ending)
                if not persevere:
                    return
            if not was_ready:
                self._trouble = f"the engine could not be started again: {cause}"
                self._news.set()
            self.restarts += 1
            backoff_s = _FIRST_BACKOFF_S if was_ready else min(2 * backoff_s, _LONGEST_BACKOFF_S)
            log.error("%s; starting it again in %.1f s", cause, backoff_s)
            await asyncio.sleep(backoff_s)

    async def _live_once(self, started: asyncio.Future[None]) -> tuple[bool, EngineStartError]:
        """One engine's life: whether it was ever ready, and what ended it."""
        try:
            child = await EngineChild.spawn(self._engine_module, self._configure, self._log_level)
        except OSError as error:
            return False, EngineDied(f"no engine process could be started: {error}")
        self._process = child
        try:
            await self._attend(child, started)
            ending: EngineStartError = EngineDied(f"the engine process died: {await child.wait()}")
        except EngineStartError as error:
            ending = error
        except Exception as error:
            # Whatever it is, the callers wait for the next engine.
            log.exception("the supervision of the engine process failed")
            ending = EngineDied(f"{type(error).__name__}: {error}")
        finally:
            was_ready = self._child is not None
            self._child = None
            # One that is loading has nothing to finish.
            await (child.stop() if was_ready else child.stop(patience_s=0))
            self._process = None
        return was_ready, ending

    async def _attend(self, child: EngineChild, started: asyncio.Future[None]) -> None:
        """Serve one engine until it dies. Raises EngineStartError when it says that it cannot serve."""
        async for frame in child.frames():
            match frame:
                case Ready(models):
                    self._welcome(child, models)
                    if not started.done():
                        started.set_result(None)
                case StartFailed(message):
                    raise EngineStartError(message)
                case _:
                    self._receive(child, frame)

    def _welcome(self, child: EngineChild, models: tuple[EngineModel, ...]) -> None:
        if self._expected and models != self._expected:
            raise EngineStartError("the weights on disk are not those that were served; reload, or restart the server")
        self._models = self._expected = models
        self._child = child
        self._trouble = None
        self._on_engine()
        for ticket in self._unanswered():
            child.send(Submit(ticket.job_left()))

    def _receive(self, child: EngineChild, frame: ToGateway) -> None:
        match frame:
            case Loading(model, done, total):
                self._report(model, done, total)
            case Fetch(digest):
                self._fetch(child, digest)
            case Began(jobs):
                self._in_hand = set(jobs) & self._tickets.keys()
                self._hooks.on_begin(sorted(self._in_hand))
            case Delivered(delivery):
                self._hand_out(delivery)
            case Counted(counts):
                self.counts = counts

    def _fetch(self, child: EngineChild, digest: str) -> None:
        content = self._blobs.get(digest)
        if content is not None:
            child.send(Blob(digest, content))
            return

        async def fetch() -> None:
            child.send(Blob(digest, await self._hooks.fetch(digest)))

        task = asyncio.create_task(fetch())
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    def _report(self, model: str, done: int, total: int) -> None:
        """Once for each tenth, so that a large model shows that it is coming and a small one stays silent."""
        progress = f"loading {model}: {done * 10 // total * 10} % of {total >> 20} MiB"
        if progress != self.progress and total >= _WORTH_REPORTING_BYTES:
            log.info("%s", progress)
        self.progress = progress

    def _hand_out(self, delivery: Delivery) -> None:
        """The first outcome of a candidate counts: a redelivered job may bring one that is known."""
        self._in_hand.discard(delivery.job)
        ticket = self._tickets.get(delivery.job)
        if ticket is None:
            return
        fresh = tuple(outcome for outcome in delivery.outcomes if outcome.candidate in ticket.pending)
        ticket.pending.difference_update(outcome.candidate for outcome in fresh)
        if fresh:
            weights = next(model.weights for model in self._models if model.name == ticket.job.model)
            ticket.deliveries.put_nowait(dataclasses.replace(delivery, outcomes=fresh, weights=weights))
            self._news.set()

    def _blame(self) -> None:
        """Count this death against the jobs that were in hand; one that was alone and killed again is given up."""
        for job_id in sorted(self._in_hand & self._tickets.keys()):
            ticket = self._tickets[job_id]
            deaths = ticket.job.deaths + 1
            ticket.job = dataclasses.replace(ticket.job, deaths=deaths)
            self._hooks.on_death(job_id, deaths)
            if deaths > ALONE_AFTER_DEATHS:
                detail = f"the engine process died {deaths} times with this group in hand"
                outcomes = (Outcome(c, "failed", detail=detail, retryable=False) for c in sorted(ticket.pending))
                self._hand_out(Delivery(job_id, tuple(outcomes)))
        self._in_hand.clear()
