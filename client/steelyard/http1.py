"""HTTP/1.1 without I/O: the bytes of a request, and the answer in the bytes that come back.

httpx2 does the same and more, at some two milliseconds a call: several times what the call costs otherwise. RFC 9112.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from steelyard.exchange import Answer, Send

_END = b"\r\n"
_MOST_HEAD_BYTES, _MOST_LINE_BYTES, _MOST_SIZE_DIGITS = 64 * 2**10, 2**10, 15
_HEX = b"0123456789abcdefABCDEF"

Result = TypeVar("Result")
# Is sent what arrives, and nothing at the end of the stream.
Incoming: TypeAlias = Generator[None, bytes, Result]


class Broken(Exception):
    """What came back is no answer, or ended within one."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole answer, and whether its connection may carry another request."""

    answer: Answer
    reusable: bool


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before a body; `kept` unless the server closes the connection after it."""

    status: int
    headers: Mapping[str, str]
    kept: bool


def request_head(headers: Mapping[str, str]) -> bytes:
    """The version, and the headers that all requests to a server have in common."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([" HTTP/1.1", *lines, ""]).encode("ascii")


def request_of(send: Send, target: bytes, head: bytes) -> bytes:
    """The whole request, so that it leaves in one piece."""
    own = [b"Content-Type: ", send.media_type.encode("ascii"), _END] if send.media_type else []
    if send.method != "GET":
        own.append(b"Content-Length: %d\r\n" % len(send.content))
    return b"".join([send.method.encode("ascii"), b" ", target, head, *own, _END, send.content])


def receive() -> Incoming[Received]:
    """Made ready to be sent what arrives. Raises Broken."""
    incoming = _receive()
    next(incoming)
    return incoming


def _receive() -> Incoming[Received]:
    head, rest = yield from _head(b"")
    while head.status < 200:
        head, rest = yield from _head(rest)
    coding = head.headers.get("transfer-encoding", "").lower()
    length = head.headers.get("content-length")
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        raise Broken("a compressed answer, which was not asked for")
    kept = head.kept
    if head.status in (204, 304):
        body = b""
    elif coding:
        # A length beside it is a sign of someone who reads the stream otherwise.
        kept = kept and length is None
        body, rest = yield from _chunks(rest, coding)
    elif length is not None:
        body, rest = yield from _exactly(rest, _length(length))
    else:
        body, rest, kept = (yield from _to_the_end(rest)), b"", False
    return Received(Answer(head.status, head.headers, body), kept and not rest)


def _head(rest: bytes) -> Incoming[tuple[_Head, bytes]]:
    whole, rest = yield from _until(rest, _END + _END, _MOST_HEAD_BYTES)
    first, *lines = whole.decode("latin-1").split("\r\n")
    version, _, remainder = first.partition(" ")
    code = remainder[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdecimal()) or code < "100" or code == "101":
        raise Broken(f"no answer of HTTP/1.1 but {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Broken(f"no header but {line[:80]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    closes = "close" in headers.get("connection", "").lower()
    return _Head(int(code), headers, version != "HTTP/1.0" and not closes), rest


def _chunks(rest: bytes, coding: str) -> Incoming[tuple[bytes, bytes]]:
    if coding != "chunked":
        raise Broken(f"a body in the coding {coding[:80]!r}")
    parts: list[bytes] = []
    while True:
        line, rest = yield from _until(rest, _END, _MOST_LINE_BYTES)
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(_HEX) or len(digits) > _MOST_SIZE_DIGITS:
            raise Broken(f"no length of a chunk but {line[:80]!r}")
        size = int(digits, 16)
        if size == 0:
            break
        part, rest = yield from _exactly(rest, size + len(_END))
        if not part.endswith(_END):
            raise Broken("a chunk that is longer than it says")
        parts.append(part[: -len(_END)])
    line = _END
    while line:
        line, rest = yield from _until(rest, _END, _MOST_HEAD_BYTES)
    return b"".join(parts), rest


def _length(value: str) -> int:
    """One that was repeated is one."""
    first, *others = {each.strip() for each in value.split(",")}
    if others or not (first.isascii() and first.isdecimal()) or len(first) > _MOST_SIZE_DIGITS:
        raise Broken(f"no length of a body but {value[:80]!r}")
    return int(first)


def _until(rest: bytes, mark: bytes, most: int) -> Incoming[tuple[bytes, bytes]]:
    while (place := rest.find(mark)) < 0:
        if len(rest) > most:
            raise Broken("a head or a line without an end")
        rest += yield from _more()
    return rest[:place], rest[place + len(mark) :]


def _exactly(rest: bytes, size: int) -> Incoming[tuple[bytes, bytes]]:
    parts, missing = [rest], size - len(rest)
    while missing > 0:
        parts.append((yield from _more()))
        missing -= len(parts[-1])
    whole = b"".join(parts)
    return whole[:size], whole[size:]


def _to_the_end(rest: bytes) -> Incoming[bytes]:
    parts = [rest]
    while content := (yield):
        parts.append(content)
    return b"".join(parts)


def _more() -> Incoming[bytes]:
    content = yield
    if not content:
        raise Broken("closed before the answer was whole")
    return content
