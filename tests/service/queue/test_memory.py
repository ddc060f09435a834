"""The default queue, with an engine process that answers nonsense at once."""

import asyncio
from contextlib import aclosing

from tests.service.queue.backends import in_memory
from tests.service.scripted import job


async def test_deliveries_that_come_together_are_all_handed_on() -> None:
    """Also by a caller who takes his time over each."""
    async with in_memory("tests.service.queue.bursting_engine") as queue:
        answered = []
        async with aclosing(queue.submit(job("a", *range(50)), {})) as deliveries:
            async for delivery in deliveries:
                answered += [outcome.candidate for outcome in delivery.outcomes]
                await asyncio.sleep(0.001)
        assert answered == [*range(50)]
