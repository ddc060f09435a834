"""The workers and the batches that wait for them, which take turns."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from service.ending import end
from service.verify.batch import Batch
from service.verify.child import Child, WorkerDied
from service.verify.frames import Item, Turn
from service.verify.seat import Seat
from service.verify.workers import CannotStart, Workers

log = logging.getLogger(__name__)

# How long a worker stays with one batch while others wait.
_QUANTUM_S = 0.1


class Pool:
    """At most `count` workers, started when there is something to do.

    A worker that dies takes nobody's result along but, perhaps, that of the item in its hand.
    """

    def __init__(self, workers: Workers, count: int, on_replaced: Callable[[str], None] = lambda cause: None) -> None:
        self._workers = workers
        self._seats = [Seat(workers) for _ in range(count)]
        self._on_replaced = on_replaced
        self._rotation: deque[Batch] = deque()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # Every batch on its way, with the workers that have some of it.
        self._busy: dict[Batch, set[Child]] = {}

    async def run(self, batch: Batch) -> None:
        """Until every item has a result. When it is cancelled the batch is dropped."""
        self._busy[batch] = set()
        try:
            if batch.needs_preload and batch.is_waiting:
                # Before it has its turn, as others need not wait for that.
                await self._preload(batch)
            self._enter(batch)
            await batch.finished
        finally:
            batch.finished.cancel()
            with suppress(ValueError):
                self._rotation.remove(batch)
            for child in self._busy.pop(batch):
                child.abandon()

    async def close(self) -> None:
        """Kill the workers; what still waits is failed."""
        await end(self._tasks)
        for batch in [*self._busy]:
            batch.fail("the server is stopping", retryable=True)
        await self._workers.close()

    async def _preload(self, batch: Batch) -> None:
        try:
            await self._workers.preload()
        except CannotStart as error:
            _fail_unstarted(batch, error)

    def _enter(self, batch: Batch) -> None:
        """Into the line, if it is not there and anything of it waits."""
        if batch.is_waiting and batch not in self._rotation:
            self._rotation.append(batch)
            self._news.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._work(seat), name="verify") for seat in self._seats]

    async def _work(self, seat: Seat) -> None:
        try:
            while True:
                while not self._rotation:
                    self._news.clear()
                    await self._news.wait()
                batch = self._rotation.popleft()
                items = batch.take(time.monotonic())
                if items:
                    await self._evaluate(batch, items, seat)
                self._enter(batch)
        finally:
            seat.clear()

    async def _evaluate(self, batch: Batch, items: Sequence[Item], seat: Seat) -> None:
        """Whatever happens, the items have results then or are back in their batch."""
        try:
            child = await seat.child(preloaded=batch.needs_preload)
            # Another worker may take the rest of it.
            self._enter(batch)
            await self._turn(batch, items, seat, child)
        except asyncio.CancelledError:
            batch.hand_back(items)
            raise
        except CannotStart as error:
            batch.hand_back(items)
            _fail_unstarted(batch, error)
        except Exception:
            log.exception("a turn failed")
            seat.clear()
            batch.hand_back(items)
            batch.fail("something broke on our side", retryable=True)

    async def _turn(self, batch: Batch, items: Sequence[Item], seat: Seat, child: Child) -> None:
        busy = self._busy.get(batch, set())
        busy.add(child)
        try:
            answer = await child.take(Turn(batch.specification, batch.limit_s, _QUANTUM_S, [*items]))
        except WorkerDied as death:
            self._replace(seat, batch.bury(items, death.hand))
        else:
            batch.settle(items, answer)
            if answer.exhausted is not None or answer.tired:
                self._replace(seat, "memory")
        finally:
            busy.discard(child)

    def _replace(self, seat: Seat, cause: str) -> None:
        log.info("a verify worker is replaced: %s", cause)
        self._on_replaced(cause)
        seat.clear()


def _fail_unstarted(batch: Batch, error: CannotStart) -> None:
    log.error("no verify worker can be started: %s", error)
    batch.fail("no worker could be started", retryable=True)
