"""What stands in the bytes of an answer does not depend on the pieces in which they come."""

import random

import pytest

from steelyard.exchange import Answer, Send
from steelyard.http1 import Broken, Received, receive, request_head, request_of


def read(content: bytes, pieces: int = 1, *, end: bool = False) -> Received | None:
    """What has been received after all of it, and with `end` after the end of the stream."""
    cuts = sorted(random.Random(pieces).sample(range(1, len(content)), pieces - 1))
    incoming = receive()
    try:
        for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
            incoming.send(content[start:stop])
        if end:
            incoming.send(b"")
    except StopIteration as ended:
        received: Received = ended.value
        return received
    return None


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello", 200, b"hello", True),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5,5\r\nConnection: Close\r\n\r\nhello", 200, b"hello", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b"", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n1 \r\n!\r\n0\r\nX-Late: 1\r\n\r\n",
        200,
        b"hello!",
        True,
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        200,
        b"hi",
        False,
    ),
]


@pytest.mark.parametrize(("content", "status", "body", "reusable"), ANSWERS)
def test_an_answer_is_the_same_in_any_pieces(content: bytes, status: int, body: bytes, reusable: bool) -> None:
    for pieces in (1, 2, 3, 7, len(content)):
        received = read(content, pieces)
        assert received is not None
        assert (received.answer.status, received.answer.content, received.reusable) == (status, body, reusable)


def test_nothing_is_received_before_it_is_whole() -> None:
    for content, *_ in ANSWERS:
        assert read(content[:-1]) is None
        with pytest.raises(Broken, match="closed before"):
            read(content[:-1], end=True)


def test_a_body_without_a_length_ends_with_the_stream() -> None:
    content = b"HTTP/1.1 200 OK\r\n\r\nhello"
    assert read(content) is None
    assert read(content, 5, end=True) == Received(Answer(200, {}, b"hello"), reusable=False)


def test_headers_have_lower_case_names_and_those_that_repeat_are_joined() -> None:
    received = read(b"HTTP/1.1 429 No\r\nRetry-After:  7 \r\nVia: a\r\nvia: b\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n")
    assert received is not None
    assert received.answer.headers == {"retry-after": "7", "via": "a, b", "x": "é", "content-length": "0"}


def test_what_comes_after_an_answer_spoils_the_connection() -> None:
    received = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n")
    assert received is not None
    assert (received.answer.content, received.reusable) == (b"hi", False)


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(content: bytes) -> None:
    with pytest.raises(Broken):
        read(content)


def test_a_request_is_one_piece_and_says_how_long_it_is() -> None:
    head = request_head({"Host": "h", "Accept": "x/y"})
    sent = request_of(Send("POST", "/a", 1.0, b"body", "text/plain"), b"/a", head)
    assert sent == (
        b"POST /a HTTP/1.1\r\nHost: h\r\nAccept: x/y\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert request_of(Send("GET", "/a", 1.0), b"/a", head) == b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: x/y\r\n\r\n"
    assert b"Content-Length: 0\r\n" in request_of(Send("POST", "/a", 1.0), b"/a", head)
