"""The gateway's end of an engine process: start it, exchange frames with it, know why it ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

from service.allocator import tuned
from service.queue.frames import LENGTH_BYTES, Configure, Stop, ToEngine, ToGateway, pack_frame, to_gateway

_STOP_S = 5.0


class EngineChild:
    """One engine process."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls, module: str, configure: Configure, log_level: str) -> "EngineChild":
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, "--fd", str(theirs.fileno())),
                *("--log-level", log_level),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=tuned(os.environ),
            )
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            process.kill()
            raise
        child = cls(process, reader, writer)
        child.send(configure)
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cause(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is None:
            return "still running"
        return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit status {code}"

    def send(self, frame: ToEngine) -> None:
        """Queued in this process's memory: what is sent is bounded by the permits, and the engine always reads."""
        if not self._writer.is_closing():
            self._writer.write(pack_frame(frame))

    async def frames(self) -> AsyncIterator[ToGateway]:
        """Until the process closes its end, also by dying."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(LENGTH_BYTES)
                yield to_gateway(await self._reader.readexactly(int.from_bytes(head, "big")))

    async def wait(self) -> str:
        await self._process.wait()
        return self.cause

    async def stop(self, patience_s: float = _STOP_S) -> None:
        """Ask it to stop, and kill it when it does not; it is gone when this returns."""
        self.send(Stop())
        with contextlib.suppress(OSError):
            self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), patience_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
