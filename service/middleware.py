"""What every request gets: an id, a line in the metrics, and an error object when something of ours breaks."""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError
from service.metrics import Metrics

log = logging.getLogger(__name__)

_HEADER = b"x-request-id"
# What proxies log for a caller who has gone; nobody reads it.
CLIENT_CLOSED_REQUEST = 499
_DRAIN_S = 10.0
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class EveryRequest:
    """Pure ASGI, so that it sees the stream as it is and costs little."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(receive)
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
                if status >= HTTPStatus.BAD_REQUEST:
                    await body.drain(self._max_body_bytes)
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            # The caller went away while its body was being read: nobody is left to be answered.
            status = CLIENT_CLOSED_REQUEST
        except Exception:
            log.exception("request %s failed", request_id)
            if not status:
                await _send_bug(request_id, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)


class _Body:
    """A request's body as it passes by: a refused one is read on, so that its sender gets to see the answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def drain(self, limit: int) -> None:
        """Read and drop the rest, up to `limit` bytes in all and for a bounded time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self._ended and self._bytes < limit:
                    await self.receive()


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return given.decode() if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


async def _send_bug(request_id: str, send: Send) -> None:
    error = InternalError("something broke on our side; the server's log has the request id")
    body = error.body(request_id).model_dump_json().encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
