"""Where the server is and how a request gets there: the one place that knows httpx2."""

import functools
import math
import os
import ssl
from dataclasses import dataclass, field

import httpx2

from steelyard import __version__
from steelyard.errors import BadAnswer, ConnectionFailed, InvalidCall, SteelyardError, TimedOut
from steelyard.exchange import Answer, Send

DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_S = 10.0
# Shorter than the 5 s after which the server closes an idle connection, so that none is used as it closes.
_IDLE_S = 4.0
# Of a lane.
ONE_CONNECTION = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_S)


@dataclass(frozen=True, slots=True)
class Server:
    """An address and the key that opens it; neither key nor password is ever shown."""

    url: httpx2.URL
    api_key: str | None = field(repr=False)

    @property
    def shown(self) -> str:
        return str(self.url.copy_with(username=None, password=None))

    @property
    def headers(self) -> dict[str, str]:
        bearing = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        return {"Accept": "application/json", "User-Agent": f"steelyard/{__version__}", **bearing}

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """Reading the machine's certificates takes a tenth of a second: only for https."""
        return True if self.url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def find_server(url: str | None, api_key: str | None) -> Server:
    """What is given, else STEELYARD_URL and STEELYARD_API_KEY, else this machine. Raises InvalidCall."""
    address = url or os.environ.get("STEELYARD_URL", "").strip() or DEFAULT_URL
    key = (os.environ.get("STEELYARD_API_KEY", "") if api_key is None else api_key).strip() or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidCall("the API key has characters that a header cannot carry")
    try:
        parsed = httpx2.URL(address)
    except (httpx2.InvalidURL, UnicodeError):
        raise InvalidCall("the server's URL cannot be read; it is like http://127.0.0.1:8000") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidCall("the server's URL begins with http:// or https:// and names a host")
    return Server(parsed, key)


def request_of(send: Send, client: httpx2.Client | httpx2.AsyncClient) -> httpx2.Request:
    patience_s = None if math.isinf(send.timeout_s) else send.timeout_s
    connect_s = min(_CONNECT_S, send.timeout_s)
    return client.build_request(
        send.method,
        _address(client.base_url, send.path),
        content=send.content or None,
        headers={"Content-Type": send.media_type} if send.media_type else None,
        timeout=httpx2.Timeout(patience_s, connect=connect_s),
    )


@functools.lru_cache(256)
def _address(server: httpx2.URL, path: str) -> httpx2.URL:
    """Below the server's own path; read once, since reading a URL is half of the making of a request."""
    return server.copy_with(raw_path=server.raw_path.rstrip(b"/") + path.encode())


def answer_of(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)


def error_of(error: httpx2.HTTPError, send: Send, server: Server) -> SteelyardError:
    """What went wrong on the way, in this client's words; a connection that never opened may be tried again."""
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return TimedOut(f"{send.method} {send.path}: no answer from {server.shown} within {send.timeout_s:g} s")
    reason = f"{send.method} {send.path}: no answer from {server.shown}: {str(error) or type(error).__name__}"
    return ConnectionFailed(reason) if isinstance(error, httpx2.TransportError) else BadAnswer(reason)
