"""The default queue, with an engine process that answers nonsense at once."""

import asyncio
from contextlib import aclosing

from service.queue.frames import Configure, EngineModelSource
from service.queue.memory import MemoryQueue
from tests.service.scripted import job

CONFIGURE = Configure(
    models=(EngineModelSource("prm", "nowhere"),),
    device="cpu",
    dtype="float32",
    threads=1,
    batch_tokens=1,
    batch_tiles=1,
    prefix_cache_bytes=0,
    vision_cache_bytes=0,
    batch_invariant=False,
)


async def test_deliveries_that_come_together_are_all_handed_on() -> None:
    """Also by a caller who takes his time over each."""
    queue = MemoryQueue(CONFIGURE, "error", lambda: None, "tests.service.queue.bursting_engine")
    await queue.start()
    try:
        answered = []
        async with aclosing(queue.submit(job("a", *range(50)), {})) as deliveries:
            async for delivery in deliveries:
                answered += [outcome.candidate for outcome in delivery.outcomes]
                await asyncio.sleep(0.001)
        assert answered == [*range(50)]
    finally:
        await queue.close()
