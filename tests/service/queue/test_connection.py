"""Every way to reach Redis that a URL can say, against real servers."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from service.queue.connection import Line, connect, hide_password
from tests.service.queue.servers import VALKEY, Server, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(VALKEY, tmp_path) as running:
        yield running


@pytest.fixture
def sentinel(server: Server, tmp_path: Path) -> Iterator[int]:
    """A sentinel's port; it watches the server under the name `steel`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nsentinel monitor steel 127.0.0.1 {server.port} 1\ndir {tmp_path}\n")
    process = subprocess.Popen([VALKEY, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def ping(url: str) -> object:
    line = Line(url)
    try:
        return await line.call("PING")
    finally:
        await line.close()


async def test_a_user_of_an_acl_and_a_database(server: Server) -> None:
    with closing(server.client()) as client:
        client.acl_setuser(
            "weigher", enabled=True, passwords=["+p@ss:word/"], keys=["steelyard:*"], categories=["+@all"]
        )
    address = f"127.0.0.1:{server.port}/3"
    assert await ping(f"redis://weigher:p%40ss%3Aword%2F@{address}")
    with pytest.raises(redis.AuthenticationError):
        await ping(f"redis://weigher:wrong@{address}")


async def test_a_server_that_sentinels_name(server: Server, sentinel: int) -> None:
    url = f"redis+sentinel://127.0.0.1:{sentinel}/steel/1"

    async with asyncio.timeout(20):
        while True:
            try:
                assert await ping(url)
                break
            except redis.ConnectionError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:26379", "redis+sentinel:///service", "http://host"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://user:secret@host:1?ssl_ca_certs=x", "rediss://user:…@host:1"),
        ("redis://:secret@host", "redis://:…@host"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert hide_password(url) == shown
