"""A TCP proxy that can cut every connection, stand still, or refuse new ones."""

import asyncio
import contextlib

_PIECE = 65_536


class TcpProxy:
    """Between clients and one server on this machine; it listens on one port for as long as it lives."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """On a free port the first time, on the same one ever after. Raises OSError."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> int:
        """Reset every connection; new ones are welcome. Returns how many connections to the server were cut."""
        cut = len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()
        return cut

    def pause(self) -> None:
        """No byte passes any more; connections stay open, and new ones wait too."""
        self._flows.clear()

    def resume(self) -> None:
        self._flows.set()

    async def refuse(self) -> None:
        """As if the server's machine had gone: nobody listens, and what was connected is cut."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None

    async def accept(self) -> None:
        """Listen again after `refuse`."""
        if self._server is None:
            await self.start()

    async def close(self) -> None:
        self.resume()
        await self.refuse()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay is not None
        self._relays.add(relay)
        self._writers.add(writer)
        try:
            await self._flows.wait()
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            # The server is not there, or we are closing: the client sees its connection end.
            pass
        finally:
            self._writers.discard(writer)
            self._relays.discard(relay)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until either side ends. Raises OSError when the server is not there."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers.add(server_writer)
        ways = [
            asyncio.create_task(self._carry(reader, server_writer)),
            asyncio.create_task(self._carry(server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(server_writer)
            server_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
