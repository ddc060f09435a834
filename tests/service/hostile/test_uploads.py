"""Uploads that come slowly, or stop."""

import socket
import struct

import httpx2
import pytest

from tests.service.hostile.sending import PATIENCE_S, body, checked, connect, head_of, read_answer, said, talks
from tests.service.running import Running, read_samples, until

UPLOADS = [(path, ends) for path in ("/score_steps", "/score_outcomes", "/images") for ends in ("close", "reset")]


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


@pytest.mark.parametrize(("path", "ends"), UPLOADS)
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


@pytest.mark.parametrize("ends", ["close", "reset"])
@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/json"])
def test_a_hang_up_in_mid_answer_drops_what_is_left_of_the_group(server: Running, accept: str, ends: str) -> None:
    before = server.metric("steelyard_abandoned_groups_total")
    content = talks(*[[said(f"{index} " + "word " * 1000)] for index in range(300)])
    with connect(server) as connection:
        if ends == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        head = head_of("/score_outcomes", f"Content-Length: {len(content)}", f"Accept: {accept}")
        connection.sendall(head + content)
        if accept == "application/x-ndjson":
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        else:
            until(lambda: server.metric("steelyard_waiting_groups") > 1, "the group", PATIENCE_S)
    until(lambda: server.metric("steelyard_abandoned_groups_total") > before, "the abandoned group", PATIENCE_S)


def _is_count(path: str, name: str) -> bool:
    return name.startswith(f"steelyard_requests_total{{route={path},")


def samples(api: httpx2.Client) -> dict[str, float]:
    return read_samples(api.get("/metrics").text)
