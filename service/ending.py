"""The end of tasks that talk to Redis: its client may swallow a cancellation that comes together with an answer."""

import asyncio
from collections.abc import Collection
from typing import Any

_AGAIN_S = 0.2


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel them until all have ended; what they raise is dropped."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
