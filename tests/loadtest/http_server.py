"""A real little HTTP server whose answers the test writes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Written:
    """An answer; a status of 0 closes the connection without one."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)


Respond = Callable[[dict[str, Any]], Awaitable[Written]]


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[str]:
    """Its address; every request's JSON body goes to `respond`."""
    attending: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        attending.add(task)
        try:
            while (written := await respond(await _read(reader))).status:
                writer.write(_bytes(written))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client has gone, or the test is over.
            pass
        finally:
            attending.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending)


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length")), 0)
    body: dict[str, Any] = json.loads(await reader.readexactly(length) or b"{}")
    return body


def _bytes(written: Written) -> bytes:
    headers = {"content-length": str(len(written.body.encode())), "content-type": "application/json"} | written.headers
    lines = [f"HTTP/1.1 {written.status} Said", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + written.body.encode()
