"""As many generators as a rate needs, each in a process of its own, which send one plan between them."""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import uvloop

from loadtest.arrivals import Arrival, bursts, merge, poisson, share
from loadtest.bodies import Bodies
from loadtest.open_loop import OpenLoop
from loadtest.tally import Tally
from steelyard.schema import Priority

# Requests a second that one process sends and counts with a core to itself, less a margin.
RATE_OF_ONE = 2_000
# A new process has to import this before it can send.
_START_S = 3.0
_PROGRESS_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """A plan in a few numbers: Poisson arrivals, an online series beside them, a trainer's bursts."""

    seconds: float
    rate: float = 0.0
    priority: Priority = "train"
    online_rate: float = 0.0
    burst: int = 0
    burst_every_s: float = 1.0
    seed: int = 0

    @property
    def total_rate(self) -> float:
        return self.rate + self.online_rate + self.burst / self.burst_every_s

    def plan(self) -> Iterator[Arrival]:
        return merge(
            poisson(self.rate, self.seconds, self.priority, self.seed),
            poisson(self.online_rate, self.seconds, "online", self.seed + 1),
            bursts(self.burst, self.burst_every_s, self.seconds if self.burst else 0.0, "train"),
        )


def processes_for(load: Load) -> int:
    """Never more than there are cores: generators that wait for one another are late."""
    return max(1, min(os.cpu_count() or 1, -int(-load.total_rate // RATE_OF_ONE)))


def generate(
    urls: tuple[str, ...], bodies: Bodies, load: Load, *, processes: int, most_open: int, drain_s: float
) -> Tally:
    """The whole run's tally; this process is the only generator when there is one."""
    if processes == 1:
        return _generate(urls, bodies, load, 0, 1, most_open, drain_s, time.monotonic())
    # The monotonic clock is the machine's, so all agree on the start.
    start, total = time.monotonic() + _START_S, Tally()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(_generate, urls, bodies, load, index, processes, most_open // processes, drain_s, start)
            for index in range(processes)
        ]
        for part in parts:
            total.merge(part.result())
    return total


def _generate(
    urls: tuple[str, ...],
    bodies: Bodies,
    load: Load,
    index: int,
    of: int,
    most_open: int,
    drain_s: float,
    start: float,
) -> Tally:
    async def run() -> Tally:
        async with OpenLoop(urls, bodies, most_open=most_open) as loop:
            progress = asyncio.create_task(_report(loop, index, of, start))
            try:
                # Numbers apart by process, so that no two requests are alike.
                first = index * 1_000_000_000
                return await loop.run(share(load.plan(), index, of), drain_s=drain_s, start=start, first=first)
            finally:
                progress.cancel()

    return uvloop.run(run())


async def _report(loop: OpenLoop, index: int, of: int, start: float) -> None:
    """A line now and then; with several processes the first speaks for its share."""
    while index == 0:
        await asyncio.sleep(_PROGRESS_S)
        sent = sum(series.planned for series in loop.tally.series.values())
        answered = sum(series.answered for series in loop.tally.series.values())
        whose = "" if of == 1 else f"process 1 of {of}: "
        line = f"{time.monotonic() - start:.0f} s: {sent} sent, {answered} answered, {loop.under_way} under way"
        print(whose + line, file=sys.stderr, flush=True)
