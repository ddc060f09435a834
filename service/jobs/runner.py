"""Scores the groups of all jobs, one runner in each gateway: take, score, finish.

A runner holds what it scores by leases, which it renews; when it dies they run out, and other runners go on.
Scoring is a pure function of the group, so one that is scored twice does no harm: its first row counts.
"""

import asyncio
import contextlib
import logging
import random
from itertools import count

from service.ending import end
from service.errors import InternalError, Overloaded, ServiceError, Unavailable
from service.jobs.lines import read_line
from service.jobs.scoring import Answer, Score
from service.jobs.store import Group, Place, RunnersJobs
from steelyard.schema import JobRow

log = logging.getLogger(__name__)

# How soon a runner sees what another gateway was given, or what a dead one has left.
_LOOK_S = 1.0
_RENEWALS = 3
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


class Runner:
    """Keeps up to `concurrency` groups under way until it is closed."""

    def __init__(self, store: RunnersJobs, score: Score, *, concurrency: int, lease_s: float) -> None:
        self._store = store
        self._score = score
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._held: dict[Place, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._loops = [asyncio.create_task(self._take(), name="jobs"), asyncio.create_task(self._keep(), name="leases")]

    def wake(self) -> None:
        """There may be something to take."""
        self._news.set()

    async def close(self) -> None:
        """Stop at once, and let others go on with what was under way."""
        held = await self.abandon()
        with contextlib.suppress(ServiceError):
            await self._store.release(held)

    async def abandon(self) -> set[Place]:
        """Stop at once, as a death would: the leases run on. Returns what was held."""
        await end(self._loops)
        held = {*self._held}
        await end([*self._held.values()])
        return held

    async def _take(self) -> None:
        while True:
            self._news.clear()
            free = self._concurrency - len(self._held)
            taken = [group for group in await self._groups(free) if group.place not in self._held] if free else []
            for group in taken:
                self._begin(group)
            if not taken:
                # Not wait_for: until Python 3.12 it may lose a cancellation that comes together with the news.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._news.wait()

    async def _groups(self, limit: int) -> list[Group]:
        try:
            return [*await self._store.take(limit, self._lease_s)]
        except ServiceError as error:
            log.warning("no groups of jobs can be taken: %s", error)
        except Exception:
            # Whatever it is, the jobs must go on once it is over.
            log.exception("no groups of jobs can be taken")
        return []

    def _begin(self, group: Group) -> None:
        task = asyncio.create_task(self._run(group))
        self._held[group.place] = task
        task.add_done_callback(lambda _: self._end(group.place))

    def _end(self, place: Place) -> None:
        del self._held[place]
        self.wake()

    async def _keep(self) -> None:
        """Renew the leases; what has a row by now, or is cancelled, is dropped."""
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            try:
                gone = await self._store.keep([*self._held], self._lease_s) if self._held else []
            except Exception as error:  # noqa: BLE001
                # The leases may run out, which costs time and no row.
                log.warning("the leases of groups could not be renewed: %s", error)
                continue
            for place in gone:
                if task := self._held.get(place):
                    task.cancel()

    async def _run(self, group: Group) -> None:
        """From a line to a row, however long the scoring or the store cannot be had."""
        row = await self._row(group)
        written = row.model_dump_json(ensure_ascii=True).encode()
        for attempt in count():
            try:
                await self._store.finish(group.place, written, failed=row.status == "refused")
            except ServiceError as error:
                log.warning("group %d of job %s cannot be stored: %s", group.index, group.job, error)
                await _pause(error, attempt)
            else:
                return

    async def _row(self, group: Group) -> JobRow:
        try:
            answer = await self._answer(group)
        except ServiceError as error:
            refused = error
        except Exception:
            log.exception("group %d of job %s failed", group.index, group.job)
            refused = InternalError("something broke on our side; the server's log has the job and the index")
        else:
            return JobRow.model_construct(index=group.index, status="ok", answer=answer, error=None)
        detail = refused.body(f"{group.job}-{group.index}").error
        return JobRow(index=group.index, status="refused", error=detail)

    async def _answer(self, group: Group) -> Answer:
        """Raises what would be the same another time; a server that is full or not there is asked again."""
        request = read_line(group.line)
        for attempt in count():
            try:
                return await self._score(request, group.caller)
            except (Overloaded, Unavailable) as error:
                await _pause(error, attempt)
        raise AssertionError("unreachable")


async def _pause(error: ServiceError, attempt: int) -> None:
    """Full jitter, never sooner than the refusal asks."""
    window_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 10))
    await asyncio.sleep((error.retry_after_s or 0) + random.uniform(0, window_s))  # noqa: S311
