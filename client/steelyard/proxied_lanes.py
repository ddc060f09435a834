"""Connections by way of the proxy that the environment names, left to httpx2."""

import math

import httpx2

from steelyard.errors import BadAnswer, SteelyardError
from steelyard.exchange import Answer, Send
from steelyard.transport import CONNECT_S, IDLE_S, Server, no_answer, timed_out

_ONE_CONNECTION = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S)


class BlockingProxiedLane:
    """For threads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx2.Client(headers=server.headers, verify=server.tls, limits=_ONE_CONNECTION)

    def send(self, send: Send) -> Answer:
        """Raises ConnectionFailed, TimedOut and BadAnswer."""
        try:
            return _answer_of(self._http.send(_request_of(send, self._server, self._http)))
        except httpx2.HTTPError as error:
            raise _error_of(error, send, self._server) from None

    def close(self) -> None:
        self._http.close()


class AsyncProxiedLane:
    """For the tasks of an event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx2.AsyncClient(headers=server.headers, verify=server.tls, limits=_ONE_CONNECTION)

    async def send(self, send: Send) -> Answer:
        """Raises ConnectionFailed, TimedOut and BadAnswer."""
        try:
            return _answer_of(await self._http.send(_request_of(send, self._server, self._http)))
        except httpx2.HTTPError as error:
            raise _error_of(error, send, self._server) from None

    async def aclose(self) -> None:
        await self._http.aclose()


def _request_of(send: Send, server: Server, client: httpx2.Client | httpx2.AsyncClient) -> httpx2.Request:
    patience_s = None if math.isinf(send.timeout_s) else send.timeout_s
    return client.build_request(
        send.method,
        server.address(send.path),
        content=send.content or None,
        headers={"Content-Type": send.media_type} if send.media_type else None,
        timeout=httpx2.Timeout(patience_s, connect=min(CONNECT_S, send.timeout_s)),
    )


def _answer_of(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)


def _error_of(error: httpx2.HTTPError, send: Send, server: Server) -> SteelyardError:
    """A connection that never opened may be tried again."""
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return timed_out(send, server)
    failure = no_answer(send, server, error)
    return failure if isinstance(error, httpx2.TransportError) else BadAnswer(failure.message)
