"""A tiny real HTTP server that does what a test says, request by request."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar, TypeAlias

import httpx2

from steelyard.schema import ErrorDetail, ErrorResponse
from tests.service.running import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived; `peer` is the port that its connection comes from."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: int = 0

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, or None instead of it to hang up."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Reaction: TypeAlias = Callable[[Seen], Said | None]


class Scripted:
    """What it has seen, in order; the reactions are taken one by one, and the last one for all that follow."""

    def __init__(self, reactions: list[Reaction]) -> None:
        self._reactions = reactions
        self._lock = Lock()
        self.seen: list[Seen] = []
        self.url = ""

    def react(self, seen: Seen) -> Said | None:
        with self._lock:
            self.seen.append(seen)
            reaction = self._reactions.pop(0) if len(self._reactions) > 1 else self._reactions[0]
        return reaction(seen)


@contextmanager
def scripted(*reactions: Reaction) -> Iterator[Scripted]:
    script = Scripted(list(reactions))
    handler = type("Handler", (_Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def says(status: int, body: bytes = b"", **headers: str) -> Reaction:
    said = Said(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
    return lambda _: said


def refuses(status: int, code: str, message: str = "not now", **headers: str) -> Reaction:
    detail = ErrorDetail(code=code, message=message, type="server_error", request_id="r1")
    return says(status, ErrorResponse(error=detail).model_dump_json().encode(), **headers)


def hangs_up(_: Seen) -> None:
    return None


def forwards(url: str) -> Reaction:
    """What the real server there answers."""

    def forward(seen: Seen) -> Said:
        answer = httpx2.request(
            seen.method,
            url + seen.path,
            content=seen.body,
            headers={"content-type": seen.headers.get("content-type", "")},
            timeout=PATIENCE_S,
        )
        return Said(answer.status_code, answer.content, {"x-request-id": answer.headers["x-request-id"]})

    return forward


def forwards_and_hangs_up(url: str) -> Reaction:
    """The real server answers, and the answer is lost on the way back."""

    def forward(seen: Seen) -> None:
        assert forwards(url)(seen) is not None

    return forward


class _Handler(BaseHTTPRequestHandler):
    script: ClassVar[Scripted]
    protocol_version = "HTTP/1.1"

    def _react(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = self.script.react(Seen(self.command, self.path, headers, body, self.client_address[1]))
        if said is None:
            self.close_connection = True
            return
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(said.body)))
        self.end_headers()
        self.wfile.write(said.body)

    # As http.server wants them named.
    do_GET = do_POST = do_PUT = _react  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
