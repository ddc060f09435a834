"""Pictures that gateways share through Redis, so that a caller may upload at one and score at another."""

import asyncio
from concurrent.futures import TimeoutError as TooLate

from service.queue.redis import RedisQueue

_PATIENCE_S = 6.0


class SharedPictures:
    """Called from the threads that encode; the talking is done on the gateway's loop."""

    def __init__(self, queue: RedisQueue, loop: asyncio.AbstractEventLoop, ttl_s: float) -> None:
        self._queue, self._loop, self._ttl_s = queue, loop, ttl_s

    def find(self, image_id: str) -> bytes | None:
        """None where nobody has stored it, or Redis is away."""
        try:
            return asyncio.run_coroutine_threadsafe(self._queue.blob(image_id), self._loop).result(_PATIENCE_S)
        except TooLate:
            return None

    def keep(self, image_id: str, content: bytes) -> None:
        """Raises QueueUnavailable."""
        asyncio.run_coroutine_threadsafe(self._queue.keep(image_id, content, self._ttl_s), self._loop).result()
