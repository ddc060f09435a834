"""The two queues with engines that answer nonsense, as a test drives either."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager

import psutil

from models.checkpoint import tokenizer_digest
from service.job import Delivery, Job, Outcome
from service.queue import Queue
from service.queue.frames import Configure, EngineModelSource
from service.queue.memory import MemoryQueue
from service.queue.redis import RedisOptions, RedisQueue
from service.settings import Settings
from service.worker_loop import Worker
from tests.service.queue.servers import Server
from tests.service.running import DEMO

ENGINE = "tests.service.queue.halving_engine"
CONFIGURE = Configure(
    models=(EngineModelSource("prm", "nowhere"),),
    device="cpu",
    dtype="float32",
    threads=1,
    batch_tokens=100,
    batch_tiles=1,
    prefix_cache_bytes=0,
    vision_cache_bytes=0,
    batch_invariant=False,
)
PATIENCE_S = 40.0


@asynccontextmanager
async def in_memory(engine: str = ENGINE) -> AsyncIterator[MemoryQueue]:
    queue = MemoryQueue(CONFIGURE, "error", lambda: None, engine)
    await queue.start()
    try:
        yield queue
    finally:
        await queue.close()


def worker_settings(server: Server, **others: object) -> Settings:
    return Settings.model_validate(
        {"queue": server.url, "model": (f"prm={DEMO}",), "batch_tokens": 100, "threads": 1, "drain_s": 5} | others
    )


@asynccontextmanager
async def working(server: Server, **settings: object) -> AsyncIterator[Worker]:
    """A worker on this loop, its engine a process."""
    worker = Worker(worker_settings(server, **settings), lambda: None, ENGINE)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


@asynccontextmanager
async def listening(
    server: Server, *, tokens: int = 1_000_000, replay_ms: int = 60_000, reuse: bool = True
) -> AsyncIterator[RedisQueue]:
    """A gateway's end, once a worker has registered."""
    options = RedisOptions(server.url, tokens, replay_ms, reuse)
    sources = (EngineModelSource("prm", str(DEMO)),)
    queue = RedisQueue(options, {"prm": tokenizer_digest(DEMO)}, lambda: None, sources)
    await asyncio.wait_for(queue.start(), PATIENCE_S)
    try:
        yield queue
    finally:
        await queue.close()


@asynccontextmanager
async def through_redis(server: Server) -> AsyncIterator[RedisQueue]:
    async with working(server), listening(server) as queue:
        yield queue


async def deliveries_of(queue: Queue, job: Job, blobs: Mapping[str, bytes] | None = None) -> list[Delivery]:
    async with asyncio.timeout(PATIENCE_S), aclosing(queue.submit(job, blobs or {})) as arriving:
        return [delivery async for delivery in arriving]


async def outcomes_of(queue: Queue, job: Job, blobs: Mapping[str, bytes] | None = None) -> list[Outcome]:
    """Each candidate's, in their order; each must have just one."""
    found = [outcome for delivery in await deliveries_of(queue, job, blobs) for outcome in delivery.outcomes]
    assert sorted(outcome.candidate for outcome in found) == list(range(len(job.candidates)))
    return sorted(found, key=lambda outcome: outcome.candidate)


def halves(outcomes: list[Outcome]) -> list[float]:
    assert [outcome.status for outcome in outcomes] == ["ok"] * len(outcomes), outcomes
    return [float(outcome.values(2)[0, 0]) for outcome in outcomes]


def engines() -> list[psutil.Process]:
    """The engine processes of this one's queues and workers."""
    return [child for child in psutil.Process().children() if ENGINE in child.cmdline()]


def opened(job: Job, opening: str) -> Job:
    return dataclasses.replace(job, opening=opening)


async def until(look: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + patience_s
    while not look():
        assert time.monotonic() < give_up, f"waited {patience_s:.0f} s in vain for {what}"
        await asyncio.sleep(0.02)
