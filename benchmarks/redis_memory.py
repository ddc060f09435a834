"""Whether Redis's memory stays where it was: `python -m benchmarks.redis_memory [--first 10000] [--jobs 1000000]`.

Small jobs go from submit to deliver through a Valkey and a stub worker; then their results' time to live passes. The
memory after all of them is compared with that after the first ones, keys and all. Exit status 1 past 5 %.
"""

import argparse
import asyncio
import sys
import time
from itertools import count

from redis.asyncio import Redis

from benchmarks.queue_server import gateway_queue, stub_workers, valkey
from benchmarks.queue_throughput import many

_RESULT_S = 10
# Keys that expired are removed by and by.
_SETTLED_S = 2 * _RESULT_S
_CHUNK = 50_000
_LIMIT = 1.05


async def settled(redis: Redis) -> tuple[int, int]:
    """Bytes in use and keys, once what was stored for a time has gone."""
    await asyncio.sleep(_RESULT_S + _SETTLED_S)
    await redis.memory_purge()
    # The server's own log of slow commands fills up by and by, to its bound.
    await redis.slowlog_reset()
    memory = await redis.info("memory")
    return int(memory["used_memory"]), int(await redis.dbsize())


async def measure(url: str, options: argparse.Namespace) -> float:
    queue, numbers, began = gateway_queue(url), count(), time.monotonic()
    await queue.start()
    async with Redis.from_url(url, decode_responses=True) as redis:
        await many(queue, numbers, options.first, options.in_flight, options.bytes)
        before, keys = await settled(redis)
        print(f"after {options.first} jobs: {before / 2**20:.2f} MiB, {keys} keys", flush=True)
        done = options.first
        while done < options.jobs:
            jobs = min(_CHUNK, options.jobs - done)
            await many(queue, numbers, jobs, options.in_flight, options.bytes)
            done += jobs
            print(f"{done} jobs, {time.monotonic() - began:.0f} s", flush=True)
        after, keys = await settled(redis)
        print(f"after {done} jobs: {after / 2**20:.2f} MiB, {keys} keys: {after / before:.3f} times", flush=True)
    await queue.close()
    return after / before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--bytes", type=int, default=256)
    options = parser.parse_args()
    with valkey() as url, stub_workers(url, 1, "--result-s", str(_RESULT_S)):
        return int(asyncio.run(measure(url, options)) > _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
