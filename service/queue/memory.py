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

from service.batching import ALONE_AFTER_DEATHS
from service.engine_child import EngineChild, EngineStartError
from service.engine_counts import EngineCounts
from service.job import Delivery, EngineModel, Job, Outcome
from service.queue import QueueUnavailable
from service.queue.frames import (
    Began,
    Blob,
    Configure,
    Counted,
    Delivered,
    Fetch,
    Loading,
    Ready,
    StartFailed,
    Submit,
    ToGateway,
    Withdraw,
)

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 30.0
_WORTH_REPORTING_BYTES = 2**28


@dataclasses.dataclass(slots=True)
class _Ticket:
    """An accepted job, what is still unknown of it, and where its deliveries go."""

    job: Job
    blobs: Mapping[str, bytes]
    pending: set[int]
    deliveries: asyncio.Queue[Delivery]

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
    """A Queue over one engine process, which it starts, feeds, and starts again when it dies."""

    def __init__(
        self,
        configure: Configure,
        log_level: str,
        on_engine: Callable[[], None],
        engine_module: str,
        *,
        hooks: "Hooks | None" = None,
    ) -> None:
        self._engine_module = engine_module
        self._configure = configure
        self._log_level = log_level
        self._on_engine = on_engine
        self._hooks = hooks or Hooks()
        self._fetching: set[asyncio.Task[None]] = set()
        self._child: EngineChild | None = None
        self._models: tuple[EngineModel, ...] = ()
        self._tickets: dict[str, _Ticket] = {}
        self._blobs: dict[str, bytes] = {}
        self._blob_uses: Counter[str] = Counter()
        self._in_hand: set[str] = set()
        self._first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: asyncio.Task[None] | None = None
        self._closing = False
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
        self._running = asyncio.create_task(self._supervise(), name="engine supervisor")
        await self._first_start

    async def close(self) -> None:
        """Stop the engine. Jobs that are still waiting stay without an answer: drain first."""
        self._closing = True
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def renew(self) -> None:
        """End the engine process, when no job waits: those that come next get one that has run nothing."""
        if self._child is not None:
            await self._child.stop()

    async def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        if self._closing:
            raise QueueUnavailable("the server is stopping")
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
                yield delivery
        finally:
            self._forget(ticket)

    def _forget(self, ticket: _Ticket) -> None:
        del self._tickets[ticket.job.id]
        self._in_hand.discard(ticket.job.id)
        self._drop(ticket.blobs)
        if ticket.pending and self._child is not None:
            self._child.send(Withdraw(ticket.job.id))

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

    async def _supervise(self) -> None:
        """Keep an engine running, whatever ends it; the only way out is a first start that fails."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            was_ready, cause = await self._live_once()
            if not self._first_start.done():
                self._first_start.set_exception(EngineStartError(cause))
                return
            if not was_ready:
                self._trouble = f"the engine could not be started again: {cause}"
            self._blame()
            self.restarts += 1
            backoff_s = _FIRST_BACKOFF_S if was_ready else min(2 * backoff_s, _LONGEST_BACKOFF_S)
            log.error("%s; starting it again in %.1f s", cause, backoff_s)
            await asyncio.sleep(backoff_s)

    async def _live_once(self) -> tuple[bool, str]:
        """One engine's life: whether it was ever ready, and what ended it."""
        try:
            child = await EngineChild.spawn(self._engine_module, self._configure, self._log_level)
        except OSError as error:
            return False, f"no engine process could be started: {error}"
        try:
            await self._attend(child)
            cause = f"the engine process died: {await child.wait()}"
        except EngineStartError as error:
            cause = str(error)
        except Exception as error:
            # Whatever it is, the callers wait for the next engine.
            log.exception("the supervision of the engine process failed")
            cause = f"{type(error).__name__}: {error}"
        finally:
            was_ready = self._child is not None
            self._child = None
            await child.stop()
        return was_ready, cause

    async def _attend(self, child: EngineChild) -> None:
        """Serve one engine until it dies. Raises EngineStartError when it says that it cannot serve."""
        async for frame in child.frames():
            match frame:
                case Ready(models):
                    self._welcome(child, models)
                case StartFailed(message):
                    raise EngineStartError(message)
                case _:
                    self._receive(child, frame)

    def _welcome(self, child: EngineChild, models: tuple[EngineModel, ...]) -> None:
        if self._models and models != self._models:
            raise EngineStartError("the weights on disk are not those that were served; restart the server")
        self._models = models
        self._child = child
        self._trouble = None
        self._on_engine()
        for ticket in self._tickets.values():
            child.send(Submit(ticket.job_left()))
        if not self._first_start.done():
            self._first_start.set_result(None)

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
            ticket.deliveries.put_nowait(dataclasses.replace(delivery, outcomes=fresh))

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
