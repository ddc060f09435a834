"""What the queue in Redis costs: jobs a second from submit to deliver, and a lone job's time over the one in memory.

`python -m benchmarks.queue_throughput [--jobs 20000] [--in-flight 256] [--bytes 2048] [--lone 500]`: no HTTP, jobs of
2 kB, a worker process whose engine answers at once, and a Valkey from its wheel, all on this machine. Every answer is
checked. The lone jobs go to both queues in turn.
"""

import argparse
import asyncio
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import count, islice

import numpy as np

from benchmarks.queue_server import MODEL, gateway_queue, stub_workers, valkey
from service.configuration import engine_configuration
from service.job import Job, JobCandidate
from service.queue.frames import EngineModelSource
from service.queue.memory import MemoryQueue
from service.queue.redis import RedisQueue
from service.settings import DEMO, Settings

ENGINE = "benchmarks.stub_engine"


def make_job(size: int, number: int) -> Job:
    """Two candidates and their prefix, `size` bytes in all, no two alike."""
    tokens = size // 12
    numbers = np.random.default_rng(number)
    prefix, *suffixes = (numbers.integers(0, 90_000, tokens, np.int32).tobytes() for _ in range(3))
    readouts = np.array([2 * tokens - 1], np.int32).tobytes()
    opening = f"{number:08x}"
    candidates = tuple(JobCandidate(suffix, readouts) for suffix in suffixes)
    return Job(uuid.uuid4().hex, MODEL, 1, time.monotonic(), None, prefix, candidates, opening=opening)


async def score(queue: MemoryQueue | RedisQueue, job: Job) -> None:
    async with aclosing(queue.submit(job, {})) as deliveries:
        outcomes = [outcome async for delivery in deliveries for outcome in delivery.outcomes]
    assert sorted(outcome.candidate for outcome in outcomes) == [0, 1]
    assert all(outcome.status == "ok" for outcome in outcomes)


async def many(queue: RedisQueue, numbers: Iterator[int], jobs: int, in_flight: int, size: int) -> float:
    """Seconds for so many jobs, so many of them at a time; one that was scored before would be answered from Redis."""
    waiting = iter([make_job(size, next(numbers)) for _ in range(jobs)])

    async def one_after_another() -> None:
        for job in waiting:
            await score(queue, job)

    started = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return time.perf_counter() - started


async def alone(
    queues: list[MemoryQueue | RedisQueue], numbers: Iterator[int], jobs: int, size: int
) -> list[list[float]]:
    """Milliseconds of each lone job, in turn through each queue."""
    times: list[list[float]] = [[] for _ in queues]
    for number in islice(numbers, jobs):
        for place, queue in enumerate(queues):
            job = make_job(size, number)
            started = time.perf_counter()
            await score(queue, job)
            times[place].append((time.perf_counter() - started) * 1000)
    return times


async def measure(options: argparse.Namespace, url: str) -> None:
    settings = Settings(model=(f"{MODEL}={DEMO / MODEL}",), threads=1)
    async with AsyncExitStack() as stack:
        memory = MemoryQueue(
            engine_configuration(settings, (EngineModelSource(MODEL, str(DEMO / MODEL)),)),
            "error",
            lambda: None,
            ENGINE,
        )
        await memory.start()
        stack.push_async_callback(memory.close)
        redis = gateway_queue(url)
        await redis.start()
        stack.push_async_callback(redis.close)
        numbers = count()
        await many(redis, numbers, 2000, options.in_flight, options.bytes)
        for _ in range(3):
            seconds = await many(redis, numbers, options.jobs, options.in_flight, options.bytes)
            print(f"{options.jobs} jobs of {options.bytes} bytes, {options.in_flight} in flight: "
                  f"{options.jobs / seconds:.0f} jobs/s")  # fmt: skip
        in_memory, in_redis = await alone([memory, redis], numbers, options.lone, options.bytes)
        more = [b - a for a, b in zip(in_memory, in_redis, strict=True)]
        print(f"alone: memory {statistics.median(in_memory):.2f} ms, Redis {statistics.median(in_redis):.2f} ms, "
              f"{statistics.median(more):.2f} ms more (medians of {options.lone})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--bytes", type=int, default=2048)
    parser.add_argument("--lone", type=int, default=500)
    options = parser.parse_args()
    with valkey() as url, stub_workers(url, 1, "--result-s", "10"):
        asyncio.run(measure(options, url))


if __name__ == "__main__":
    main()
