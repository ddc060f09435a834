"""A connection for threads: one call at a time, opened when a call needs it."""

import contextlib
import math
import select
import socket
import time

from steelyard.exchange import Answer, Send
from steelyard.http1 import Broken, Received, receive, request_of
from steelyard.transport import CONNECT_S, IDLE_S, Route, no_answer, timed_out

_PIECE_BYTES = 256 * 2**10


class BlockingLane:
    """Straight to the server."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._socket: socket.socket | None = None
        self._used = 0.0

    def send(self, send: Send) -> Answer:
        """Raises ConnectionFailed and TimedOut, when nothing has moved for so long."""
        request = request_of(send, self._route.target(send.path), self._route.head)
        connection = self._connected(send)
        received: Received | None = None
        try:
            patience_s = None if math.isinf(send.timeout_s) else send.timeout_s
            if connection.gettimeout() != patience_s:
                connection.settimeout(patience_s)
            received = _exchange(connection, request)
        except TimeoutError:
            raise timed_out(send, self._route.server) from None
        except (OSError, Broken) as error:
            raise no_answer(send, self._route.server, error) from None
        finally:
            self._used = time.monotonic()
            if received is None or not received.reusable:
                self.close()
        return received.answer

    def close(self) -> None:
        """A call that is under way on it fails."""
        closing, self._socket = self._socket, None
        if closing is not None:
            with contextlib.suppress(OSError):
                closing.shutdown(socket.SHUT_RDWR)
            closing.close()

    def _connected(self, send: Send) -> socket.socket:
        """Raises ConnectionFailed."""
        if self._socket is not None:
            # Readable without a request, it says that the server has closed it.
            if time.monotonic() - self._used < IDLE_S and not _readable(self._socket):
                return self._socket
            self.close()
        try:
            self._socket = self._open(min(CONNECT_S, send.timeout_s))
        except (OSError, UnicodeError) as error:
            raise no_answer(send, self._route.server, error) from None
        return self._socket

    def _open(self, patience_s: float) -> socket.socket:
        opened = socket.create_connection((self._route.host, self._route.port), patience_s)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._route.tls
            return opened if tls is None else tls.wrap_socket(opened, server_hostname=self._route.host)
        except BaseException:
            opened.close()
            raise


def _exchange(connection: socket.socket, request: bytes) -> Received:
    left = memoryview(request)
    try:
        while left:
            left = left[connection.send(left) :]
    except TimeoutError:
        raise
    except OSError:
        # One who refuses a request may close before it has read it; the answer is there nevertheless.
        pass
    incoming = receive()
    while True:
        try:
            incoming.send(connection.recv(_PIECE_BYTES))
        except StopIteration as end:
            received: Received = end.value
            return received if not left else Received(received.answer, reusable=False)


def _readable(connection: socket.socket) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([connection], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))
