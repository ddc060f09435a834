"""What a second worker adds: `python -m benchmarks.fleet_scaling [--jobs 600] [--cost-ms 20] [--rounds 3]`.

Real workers over an engine that sleeps a fixed time a job, so that two have twice the capacity of one and what the
queue costs is all that is missing. No HTTP; a Valkey of its own for each run; every answer is checked.
"""

import argparse
import asyncio
import time
from itertools import count

from benchmarks.interleaved import Contestant, interleave
from benchmarks.queue_server import MODEL, gateway_queue, stub_workers, valkey
from benchmarks.queue_throughput import many
from service.queue.redis_worker import RedisWorker

_ENGINE = "benchmarks.fixed_cost_engine"
_POLL_S = 0.05


async def timed(url: str, workers: int, options: argparse.Namespace) -> float:
    """Seconds for the jobs once all the workers are there."""
    queue, numbers = gateway_queue(url), count()
    await queue.start()
    await _all_there(url, workers)
    await many(queue, numbers, 20 * workers, options.in_flight, options.bytes)
    seconds = await many(queue, numbers, options.jobs, options.in_flight, options.bytes)
    await queue.close()
    return seconds


async def _all_there(url: str, workers: int) -> None:
    watcher = RedisWorker(url, [MODEL], result_ms=0, result_bytes=0, steal_ms=0)
    there = 0
    while there < workers:
        await asyncio.sleep(_POLL_S)
        there = len(await watcher.standings())
    await watcher.close()


def contestant(workers: int, options: argparse.Namespace) -> Contestant:
    def run() -> float:
        began = time.perf_counter()
        with valkey() as url, stub_workers(url, workers, engine=_ENGINE, cost_ms=options.cost_ms):
            seconds = asyncio.run(timed(url, workers, options))
        return seconds / (time.perf_counter() - began)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=600)
    parser.add_argument("--cost-ms", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=2048)
    options = parser.parse_args()
    times = interleave({f"{n} of {MODEL}": contestant(n, options) for n in (1, 2)}, options.rounds)
    one, two = times.seconds
    middle, least, most = times.ratio(one, two)
    print(f"{options.jobs} jobs of {options.cost_ms:.0f} ms: one worker {times.median(one):.2f} s, "
          f"two {times.median(two):.2f} s: {middle:.3f} times ({least:.3f}–{most:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
