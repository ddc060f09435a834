"""Bodies that cost more than they should, or are refused before they are read."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from steelyard.schema import ErrorResponse
from tests.service.hostile.sending import (
    ALLOWED,
    BODY_LIMIT,
    MIB,
    PATIENCE_S,
    body,
    checked,
    connect,
    exchange,
    head_of,
    peak_mib,
    read_answer,
)
from tests.service.running import Running

needs_peaks = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc"
)
MISTAKES = 200_000
LITTLE_MIB = 80
WRONG: dict[str, Callable[[], bytes]] = {
    "candidates": lambda: body(candidates=[1] * MISTAKES),
    "steps": lambda: body(candidates=[[1] * MISTAKES]),
    "images": lambda: body(images=[1] * MISTAKES),
    "unknown fields": lambda: body(**{f"x{i}": 1 for i in range(MISTAKES)}),
}
OUTCOMES: dict[str, Callable[[], bytes]] = {
    "messages": lambda: many(b"1", b'{"candidates":["a"],"messages":[%s]}'),
    "messages' fields": lambda: many(b'{"x":1}', b'{"candidates":["a"],"messages":[%s]}'),
    "a message's fields": lambda: conversation(**{f"x{i}": 1 for i in range(MISTAKES)}),
    "parts": lambda: conversation(role="user", content=[1] * MISTAKES),
    "unknown parts": lambda: conversation(role="user", content=[{"type": "x"}] * (MISTAKES // 4)),
    "parts' fields": lambda: conversation(role="user", content=[{"type": "text", "text": 1}] * (MISTAKES // 4)),
    "frames": lambda: conversation(role="user", content=[{"type": "video_frames", "frames": [1] * MISTAKES}]),
    "conversations": lambda: many(b"{}", b'{"conversations":[%s]}'),
    "conversations' messages": lambda: many(b'{"messages":[1]}', b'{"conversations":[%s]}'),
    "empty objects": lambda: many(b"{}", b'{"conversations":[%s]}'),
    "empty lists": lambda: many(b"[]", b'{"conversations":[%s]}'),
}

PLACES = [("/score_steps", name) for name in WRONG] + [("/score_outcomes", name) for name in OUTCOMES]


def many(item: bytes, around: bytes, size: int = MIB) -> bytes:
    return around % ((item + b",") * ((size - len(around)) // (len(item) + 1)))[:-1]


def conversation(**message: object) -> bytes:
    return json.dumps({"conversations": [{"messages": [message]}]}).encode()


@needs_peaks
@pytest.mark.parametrize(
    ("path", "name"), [("/score_steps", n) for n in WRONG] + [("/score_outcomes", n) for n in OUTCOMES]
)
def test_a_body_of_many_mistakes_costs_little_memory(guarded: Running, path: str, name: str) -> None:
    """A megabyte that cost a gigabyte would let one body of the permitted size end the gateway."""
    content = (WRONG if path == "/score_steps" else OUTCOMES)[name]()
    headers = {"Authorization": "Bearer key"}
    process = Path("/proc") / str(guarded.process.pid)
    (process / "clear_refs").write_text("5")
    before = peak_mib(process)
    response = httpx2.post(guarded.url + path, content=content, headers=headers, timeout=PATIENCE_S)
    assert checked(response).status_code == 422
    assert peak_mib(process) - before < LITTLE_MIB


@needs_peaks
@pytest.mark.parametrize("item", [b"{}", b"[]", b"1", b'""', b'{"messages":[]}'])
def test_a_body_of_the_permitted_size_that_unpacks_to_gigabytes_is_refused_at_once(
    server: Running, api: httpx2.Client, item: bytes
) -> None:
    content = many(item, b'{"conversations":[%s]}', 60 * MIB)
    process = Path("/proc") / str(server.process.pid)
    (process / "clear_refs").write_text("5")
    before = peak_mib(process)
    response = checked(api.post("/score_outcomes", content=content))
    assert response.status_code == 422
    assert "too many" in response.text
    # The body itself, its copy without escapes, and what tells of that.
    assert peak_mib(process) - before < 400


@pytest.mark.parametrize("path", ["/score_steps", "/images", "/models", "/nowhere", "/docs", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_method_on_no_route_is_our_bug(api: httpx2.Client, method: str, path: str) -> None:
    assert api.request(method, path, content=b"x" if method in ("POST", "PUT") else None).status_code in ALLOWED


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /models HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
    ],
)
def test_a_hostile_head_is_refused(server: Running, head: bytes) -> None:
    answer = exchange(server, head)
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    assert answer.split()[1][:1] in b"24", answer[:200]


KEY = "Authorization: Bearer key"
REFUSED = [
    pytest.param("/score_steps", [KEY], 413, id="413"),
    pytest.param("/images", [KEY], 413, id="413 for a picture"),
    pytest.param("/score_steps", [], 401, id="401"),
    pytest.param("/nowhere", [KEY], 404, id="404"),
    pytest.param("/models", [KEY], 405, id="405"),
]


@pytest.mark.parametrize("closing", [[], ["Connection: close"]], ids=["kept alive", "closing"])
@pytest.mark.parametrize(("path", "status"), [("/images", 413), ("/nowhere", 404), ("/models", 405)])
def test_a_refusal_of_30_mb_is_seen_by_a_client_that_sends_them_all(
    server: Running, path: str, status: int, closing: list[str]
) -> None:
    content = bytes(30_000_000)
    answer = exchange(server, head_of(path, *closing, f"Content-Length: {len(content)}"), content)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]


@pytest.mark.parametrize("closing", [[], ["Connection: close"]], ids=["kept alive", "closing"])
@pytest.mark.parametrize(("path", "headers", "status"), REFUSED)
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_refused_body_is_read_to_its_end_up_to_the_limit(
    guarded: Running, path: str, headers: list[str], status: int, chunked: bool, closing: list[str]
) -> None:
    content = bytes(BODY_LIMIT + 1 if status == 413 else BODY_LIMIT - 1)
    if chunked:
        parts = [head_of(path, *headers, *closing, "Transfer-Encoding: chunked")]
        parts += [b"%x\r\n%s\r\n" % (len(content), content), b"0\r\n\r\n"]
    else:
        parts = [head_of(path, *headers, *closing, f"Content-Length: {len(content)}"), content]
    answer = exchange(guarded, *parts)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    ErrorResponse.model_validate_json(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize(("key", "status"), [("key", 413), ("wrong", 401)])
def test_a_common_client_sees_the_refusal_of_30_mb(guarded: Running, key: str, status: int, chunked: bool) -> None:
    pieces = (bytes(MIB) for _ in range(30))
    content = pieces if chunked else bytes(30 * MIB)
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=guarded.url, timeout=PATIENCE_S, headers=headers) as client:
        response = client.post("/score_steps", content=content)
        assert checked(response).status_code == status
        assert client.get("/health/live").status_code == 200


def test_a_connection_serves_on_after_a_refusal(guarded: Running) -> None:
    refused_body = head_of("/score_steps", KEY, f"Content-Length: {BODY_LIMIT + 1}") + bytes(BODY_LIMIT + 1)
    fine = body()
    with connect(guarded) as connection:
        connection.sendall(refused_body)
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(head_of("/score_steps", KEY, f"Content-Length: {len(fine)}") + fine)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_asks_before_it_sends_is_told_to_go_on_or_not(guarded: Running) -> None:
    fine = body()
    with connect(guarded) as connection:
        connection.sendall(head_of("/score_steps", KEY, f"Content-Length: {len(fine)}", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(fine)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
