"""Where the server is, and what a request to it looks like on the way there."""

import base64
import functools
import os
import ssl
from dataclasses import dataclass, field
from urllib.request import getproxies

import httpx2

from steelyard import __version__
from steelyard.errors import ConnectionFailed, InvalidCall, TimedOut
from steelyard.exchange import Send
from steelyard.http1 import request_head

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 10.0
# Shorter than the 5 s after which the server closes an idle connection, so that none is used as it closes.
IDLE_S = 4.0
_PORTS = {"http": 80, "https": 443}


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
    def tls(self) -> ssl.SSLContext:
        """Reading the machine's certificates takes a tenth of a second: only for https."""
        return httpx2.create_ssl_context() if self.url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @property
    def is_proxied(self) -> bool:
        """Whether the environment names a proxy that httpx2 might take to get there."""
        named = getproxies()
        own = self.url.host in [each.strip() for each in named.get("no", "").split(",")]
        return bool(named.get(self.url.scheme) or named.get("all")) and not own

    def address(self, path: str) -> httpx2.URL:
        """Below the server's own path."""
        return _address(self.url, path)


@dataclass(frozen=True, slots=True)
class Route:
    """How connections to a server open, and what all requests there begin with."""

    server: Server
    host: str
    port: int
    tls: ssl.SSLContext | None = field(repr=False)
    head: bytes = field(repr=False)

    def target(self, path: str) -> bytes:
        return self.server.address(path).raw_path


def route_to(server: Server) -> Route:
    """Without a proxy."""
    url = server.url
    headers = {"Host": url.netloc.decode("ascii"), **server.headers, "Accept-Encoding": "identity"}
    if url.username or url.password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    tls = None
    if url.scheme == "https":
        tls = server.tls
        tls.set_alpn_protocols(["http/1.1"])
    return Route(server, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme], tls, request_head(headers))


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


# Reading a URL takes longer than making a request of it.
@functools.lru_cache(256)
def _address(server: httpx2.URL, path: str) -> httpx2.URL:
    return server.copy_with(raw_path=server.raw_path.rstrip(b"/") + path.encode())


def timed_out(send: Send, server: Server) -> TimedOut:
    return TimedOut(f"{send.method} {send.path}: no answer from {server.shown} within {send.timeout_s:g} s")


def no_answer(send: Send, server: Server, error: Exception) -> ConnectionFailed:
    """In this client's words."""
    reason = str(error) or type(error).__name__
    return ConnectionFailed(f"{send.method} {send.path}: no answer from {server.shown}: {reason}")
