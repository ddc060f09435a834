"""Kept connections that carry prepared requests: an HTTP client of its own, because it must cost next to nothing."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

# Shorter than the 5 s after which the server closes an idle connection.
_IDLE_S = 4.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or in `broken` why there is none."""

    status: int = 0
    retry_after: str | None = None
    body: bytes = b""
    broken: str | None = None


Done = Callable[[Reply], None]


@dataclass(slots=True)
class _Exchange:
    """A request under way; it may be sent once more when a kept connection closes as it is used."""

    request: bytes
    done: Done
    kept: bool
    retry_after: str | None = None
    body: list[bytes] = field(default_factory=list)
    begun: bool = False


class Pool:
    """The connections to one server: as many as there are requests under way, and no more than `most`."""

    def __init__(self, host: str, port: int, *, tls: bool = False, most: int = 10_000) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._most = most
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.under_way = 0
        self.opened = 0

    def send(self, request: bytes, done: Done) -> bool:
        """`done` is called once, later. False, and it is never called, when too many are under way."""
        if self.under_way >= self._most:
            return False
        self.under_way += 1
        fresh_since = self._loop.time() - _IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.used >= fresh_since:
                connection.begin(_Exchange(request, done, kept=True))
                return True
            connection.close()
        self._dial(_Exchange(request, done, kept=False))
        return True

    async def close(self) -> None:
        """Requests under way get no answer."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._open):
            connection.close()

    def ended(self, exchange: _Exchange, reply: Reply) -> None:
        self.under_way -= 1
        exchange.done(reply)

    def rest(self, connection: "_Connection") -> None:
        connection.used = self._loop.time()
        self._idle.append(connection)

    def lost(self, connection: "_Connection", exchange: _Exchange | None, reason: str) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if exchange is None:
            return
        if exchange.kept and not exchange.begun:
            self._dial(_Exchange(exchange.request, exchange.done, kept=False))
        else:
            self.ended(exchange, Reply(broken=reason))

    def _dial(self, exchange: _Exchange) -> None:
        task = self._loop.create_task(self._connect(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self._host, self._port, ssl=True if self._tls else None
            )
        except OSError as error:
            self.ended(exchange, Reply(broken=f"not connected: {type(error).__name__}"))
            return
        self.opened += 1
        self._open.add(connection)
        connection.begin(exchange)


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._exchange: _Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.used = 0.0

    def begin(self, exchange: _Exchange) -> None:
        assert self._exchange is None
        assert self._transport is not None
        self._exchange = exchange
        self._transport.write(exchange.request)

    def close(self) -> None:
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._pool.lost(self, exchange, "reset" if exc else "closed before an answer")

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is not None and name.lower() == b"retry-after":
            self._exchange.retry_after = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.body.append(body)

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        # The parser is not reused: one that is being called cannot be, and a new one is cheap.
        self._parser = httptools.HttpResponseParser(self)
        if keep:
            self._pool.rest(self)
        elif self._transport is not None:
            self._transport.close()
        self._pool.ended(exchange, Reply(status, exchange.retry_after, b"".join(exchange.body)))
