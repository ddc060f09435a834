"""A connection for the tasks of an event loop: one call at a time, opened when a call needs it."""

import asyncio
import functools
import math
from typing import cast

from steelyard.exchange import Answer, Send
from steelyard.http1 import Broken, Received, receive, request_of
from steelyard.transport import CONNECT_S, IDLE_S, Route, no_answer, timed_out

# As RFC 8305 recommends.
_NEXT_ADDRESS_S = 0.25


class AsyncLane:
    """Straight to the server."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._connection: _Connection | None = None

    async def send(self, send: Send) -> Answer:
        """Raises ConnectionFailed and TimedOut, when nothing has moved for so long."""
        request = request_of(send, self._route.target(send.path), self._route.head)
        connection = self._connection
        if connection is None or not connection.fresh:
            await self.aclose()
            try:
                connection = self._connection = await self._open(min(CONNECT_S, send.timeout_s))
            except (OSError, UnicodeError) as error:
                raise no_answer(send, self._route.server, error) from None
        try:
            return await connection.exchange(request, send.timeout_s)
        except TimeoutError:
            raise timed_out(send, self._route.server) from None
        except (OSError, Broken) as error:
            raise no_answer(send, self._route.server, error) from None

    async def aclose(self) -> None:
        """A call that is under way on it fails."""
        closing, self._connection = self._connection, None
        if closing is not None:
            closing.abort()
            # The loop closes it in its next round, which may not come when it ends now.
            await asyncio.sleep(0)

    async def _open(self, patience_s: float) -> "_Connection":
        loop, route = asyncio.get_running_loop(), self._route
        name = route.host if route.tls else None
        connect = functools.partial(
            loop.create_connection, _Connection, route.host, route.port, ssl=route.tls, server_hostname=name
        )
        if isinstance(loop, asyncio.BaseEventLoop):
            # uvloop has no such option.
            connect = functools.partial(connect, happy_eyeballs_delay=_NEXT_ADDRESS_S)
        async with asyncio.timeout(patience_s):
            connection: _Connection = (await connect())[1]
        return connection


class _Connection(asyncio.Protocol):
    """Open, until it is lost."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = receive()
        self._received: asyncio.Future[Received] | None = None
        self._patience_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        # When something moved last, and what was still to be written then.
        self._moved = self._loop.time()
        self._unwritten = 0

    @property
    def fresh(self) -> bool:
        """Whether it is still open, as far as one can know."""
        return self._transport is not None and self._loop.time() - self._moved < IDLE_S

    async def exchange(self, request: bytes, patience_s: float) -> Answer:
        """Raises OSError, Broken, and TimeoutError when nothing has moved for so long."""
        assert self._transport is not None
        self._incoming, self._received = receive(), self._loop.create_future()
        self._transport.write(request)
        self._moved, self._unwritten = self._loop.time(), self._left_to_write()
        if not math.isinf(patience_s):
            self._patience_s = patience_s
            self._timer = self._loop.call_later(patience_s, self._look)
        reusable = False
        try:
            received = await self._received
            reusable = received.reusable and self._left_to_write() == 0
            return received.answer
        finally:
            self._received = None
            if self._timer is not None:
                self._timer.cancel()
            if not reusable:
                self.abort()

    def abort(self) -> None:
        """A call that is under way on it fails."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._moved = self._loop.time()
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is None:
            self._take(b"")
        else:
            self._fail(exc)

    def _take(self, content: bytes) -> None:
        if self._received is None or self._received.done():
            # Nobody has asked for it, or does so any more.
            self.abort()
            return
        try:
            self._incoming.send(content)
        except StopIteration as end:
            self._received.set_result(end.value)
        except Broken as error:
            self._received.set_exception(error)

    def _look(self) -> None:
        """Give up when nothing has moved for as long as the caller waits."""
        now, left = self._loop.time(), self._left_to_write()
        if left < self._unwritten:
            self._moved, self._unwritten = now, left
        remaining_s = self._moved + self._patience_s - now
        if remaining_s > 0:
            self._timer = self._loop.call_later(remaining_s, self._look)
        else:
            self._fail(TimeoutError())

    def _left_to_write(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _fail(self, error: Exception) -> None:
        if self._received is not None and not self._received.done():
            self._received.set_exception(error)
