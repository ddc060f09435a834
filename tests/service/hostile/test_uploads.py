"""Uploads that come slowly, or stop."""

import socket
import struct

import httpx2
import pytest

from tests.service.hostile.sending import PATIENCE_S, body, checked, connect, head_of, read_answer
from tests.service.running import Running, read_samples, until


def test_a_slow_upload_is_waited_for_and_scored(server: Running) -> None:
    content = body()
    with connect(server) as connection:
        connection.sendall(head_of("/score_steps", f"Content-Length: {len(content)}"))
        for byte in content:
            connection.sendall(bytes([byte]))
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_many_unfinished_uploads_keep_nobody_out(server: Running, api: httpx2.Client) -> None:
    head = head_of("/score_steps", "Content-Length: 60000000")
    connections = [connect(server) for _ in range(200)]
    try:
        for connection in connections:
            connection.sendall(head + b"{")
        assert checked(api.post("/score_steps", content=body())).status_code == 200
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(("path", "ends"), [("/score_steps", "close"), ("/images", "close"), ("/score_steps", "reset")])
def test_an_aborted_upload_is_no_bug_of_ours(server: Running, api: httpx2.Client, path: str, ends: str) -> None:
    before = samples(api)
    with connect(server) as connection:
        if ends == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head_of(path, "Content-Length: 5000000") + b"{" * 100_000)

    def counted() -> list[str]:
        return [name for name, value in samples(api).items() if _is_count(path, name) and value > before.get(name, 0)]

    statuses = until(
        lambda: [name for name in counted() if "status=200" not in name], "the aborted request", PATIENCE_S
    )
    assert not [name for name in statuses if "status=5" in name]


def _is_count(path: str, name: str) -> bool:
    return name.startswith(f"steelyard_requests_total{{route={path},")


def samples(api: httpx2.Client) -> dict[str, float]:
    return read_samples(api.get("/metrics").text)
