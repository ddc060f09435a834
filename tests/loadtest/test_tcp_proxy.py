"""The proxy's faults, as clients of a real Valkey see them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from loadtest.reaper import Reaper
from loadtest.tcp_proxy import TcpProxy
from loadtest.valkey import Valkey

PATIENCE_S = 30.0
# Long enough for an answer that would come, and the test of one that must not.
SOON_S = 0.3


class Caller:
    """One connection that speaks the inline protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def dial(cls, port: int) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, line: str) -> str:
        """The first line of the answer; empty when the connection ended."""
        self._writer.write(f"{line}\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            try:
                return (await self._reader.readline()).decode().strip()
            except ConnectionError:
                return ""

    def hang_up(self) -> None:
        self._writer.transport.abort()


Dial = Callable[[], Awaitable[Caller]]


@pytest_asyncio.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    reaper = Reaper()
    found = Valkey(tmp_path, reaper)
    try:
        await found.start()
        yield found
    finally:
        found.process.destroy()
        reaper.close()


@pytest_asyncio.fixture
async def proxy(valkey: Valkey) -> AsyncIterator[TcpProxy]:
    found = TcpProxy(valkey.port)
    await found.start()
    yield found
    await found.close()


@pytest_asyncio.fixture
async def dial(proxy: TcpProxy) -> AsyncIterator[Dial]:
    """Another connection through the proxy; all are hung up in the end."""
    callers: list[Caller] = []

    async def dial() -> Caller:
        callers.append(await Caller.dial(proxy.port))
        return callers[-1]

    yield dial
    for caller in callers:
        caller.hang_up()


@pytest_asyncio.fixture
async def caller(dial: Dial) -> Caller:
    """One that is in use."""
    found = await dial()
    assert await found.ask("PING") == "+PONG"
    return found


async def test_cut_connections_end_and_new_ones_are_welcome(proxy: TcpProxy, caller: Caller, dial: Dial) -> None:
    other = await dial()
    await other.ask("PING")
    assert proxy.cut() == 2
    assert await caller.ask("PING") == ""
    assert await other.ask("PING") == ""
    again = await dial()
    assert await again.ask("PING") == "+PONG"


async def test_a_pause_holds_the_answer_back_and_loses_nothing(proxy: TcpProxy, caller: Caller, dial: Dial) -> None:
    proxy.pause()
    asked = asyncio.create_task(caller.ask("PING"))
    late = await dial()
    asked_late = asyncio.create_task(late.ask("PING"))
    done, _ = await asyncio.wait((asked, asked_late), timeout=SOON_S)
    assert not done
    proxy.resume()
    assert [await asked, await asked_late] == ["+PONG", "+PONG"]


async def test_connections_cut_during_a_pause_end_at_once(proxy: TcpProxy, caller: Caller) -> None:
    proxy.pause()
    asked = asyncio.create_task(caller.ask("PING"))
    await asyncio.wait((asked,), timeout=SOON_S)
    proxy.cut()
    assert await asked == ""


async def test_a_refusing_proxy_is_gone_and_comes_back_on_its_port(proxy: TcpProxy, caller: Caller, dial: Dial) -> None:
    await proxy.refuse()
    assert await caller.ask("PING") == ""
    with pytest.raises(ConnectionRefusedError):
        await dial()
    await proxy.accept()
    again = await dial()
    assert await again.ask("PING") == "+PONG"


async def test_a_server_that_is_not_there_ends_the_connection(valkey: Valkey, caller: Caller, dial: Dial) -> None:
    await valkey.process.kill()
    assert await caller.ask("PING") == ""
    assert await (await dial()).ask("PING") == ""
    await valkey.start()
    again = await dial()
    assert await again.ask("PING") == "+PONG"


async def test_what_was_written_survives_a_kill_of_the_server(valkey: Valkey, caller: Caller, dial: Dial) -> None:
    for number in range(1000):
        assert await caller.ask(f"SET key-{number} {number}") == "+OK"
    await valkey.process.kill()
    await valkey.start()
    again = await dial()
    assert await again.ask("DBSIZE") == ":1000"


async def test_a_stopped_server_answers_when_it_goes_on(valkey: Valkey, caller: Caller) -> None:
    valkey.process.pause()
    asked = asyncio.create_task(caller.ask("PING"))
    done, _ = await asyncio.wait((asked,), timeout=SOON_S)
    assert not done
    valkey.process.resume()
    assert await asked == "+PONG"
