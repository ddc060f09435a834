"""Send at the planned times whatever the answers do, and count each latency from its planned time.

A closed loop waits for an answer before it sends the next request, so a server that stalls is asked less and looks
good: the omission that is coordinated with the server. Here a stall of 1 s shows in every request planned within it.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from loadtest.arrivals import Arrival
from loadtest.bodies import Bodies
from loadtest.connections import Pool, Reply
from loadtest.tally import Series, Tally
from steelyard.schema import Priority

_STATUS = re.compile(rb'"status":"(\w+)"')
# A burst is sent in pieces, so that answers are read meanwhile.
_PIECE = 64


class OpenLoop:
    """One generator in one event loop; use it in an `async with`."""

    def __init__(self, urls: Sequence[str], bodies: Bodies, *, most_open: int = 10_000) -> None:
        self._pools = [pool_of(url, most_open) for url in urls]
        self._bodies = bodies
        self._waiting: Counter[Priority] = Counter()
        self._settled = asyncio.Event()
        self.tally = Tally()

    async def __aenter__(self) -> "OpenLoop":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(pool.close() for pool in self._pools))

    @property
    def under_way(self) -> int:
        return self._waiting.total()

    async def run(
        self, plan: Iterable[Arrival], *, drain_s: float, start: float | None = None, first: int = 0
    ) -> Tally:
        """Send the plan, then wait at most `drain_s` for the last answers."""
        start, cpu = time.monotonic() if start is None else start, time.process_time()
        await self.send(plan, start, first)
        await self.drain(drain_s)
        self.tally.seconds = time.monotonic() - start
        self.tally.cpu_s = time.process_time() - cpu
        return self.tally

    async def send(self, plan: Iterable[Arrival], start: float, first: int = 0) -> None:
        """`start` is a time of the monotonic clock; the requests are numbered from `first` on."""
        for number, arrival in enumerate(plan, first):
            planned = start + arrival.at_s
            early_s = planned - time.monotonic()
            if early_s > 0 or number % _PIECE == 0:
                await asyncio.sleep(max(0.0, early_s))
            self._send(number, arrival.priority, planned)

    async def drain(self, seconds: float) -> None:
        """Until nothing is under way; what is after so long is unanswered."""
        try:
            async with asyncio.timeout(seconds):
                while self.under_way:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            for priority, count in self._waiting.items():
                self.tally.of(priority).unanswered += count
        self.tally.connections = sum(pool.opened for pool in self._pools)

    def _send(self, number: int, priority: Priority, planned: float) -> None:
        series = self.tally.of(priority)
        series.planned += 1
        self.tally.late.record(max(0.0, time.monotonic() - planned))

        def done(reply: Reply) -> None:
            self._waiting[priority] -= 1
            _count(series, reply, time.monotonic() - planned)
            if not self.under_way:
                self._settled.set()

        pool = self._pools[number % len(self._pools)]
        if pool.send(self._bodies.request(priority, number), done):
            self._waiting[priority] += 1
        else:
            series.unsent += 1


def _count(series: Series, reply: Reply, seconds: float) -> None:
    if reply.broken is not None:
        series.broken[reply.broken] += 1
        return
    series.statuses[reply.status] += 1
    if reply.status != HTTPStatus.OK:
        if reply.retry_after is not None and reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            series.retry_after[reply.retry_after] += 1
        series.refused.record(seconds)
        return
    series.accepted.record(seconds)
    series.candidates.update(status.decode() for status in _STATUS.findall(reply.body))


def pool_of(url: str, most: int) -> Pool:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Pool(parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), tls=tls, most=most)
