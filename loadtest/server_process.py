"""One server as a real process: started, killed, and started again with the same words."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from loadtest.errors import LoadTestError
from loadtest.reaper import Reaper, kill_group

ROOT = Path(__file__).parents[1]
_POLL_S = 0.05
_LAST_WORDS = 300
_ENGINE = "engine"


class ServerProcess:
    """A command in a process group of its own, whose output is appended to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        reaper: Reaper,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = folder / f"{name}.log"
        self._reaper = reaper
        self._environment = _environment() | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        # A killed process may leave children, which are in its group.
        self._groups: list[int] = []
        # Where what the present process says begins in the log.
        self._said_from = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.runs
        self._forget_empty_groups()
        with self.log.open("ab") as log:
            self._said_from = log.tell()
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own, and none of our Ctrl-C.
                start_new_session=True,
            )
        self._groups.append(self._process.pid)
        self._reaper.watch(self._process.pid)

    async def kill(self) -> None:
        """SIGKILL to this process alone; its children notice, or are orphans as they would be elsewhere."""
        await self._end(signal.SIGKILL, 30.0)

    async def terminate(self, patience_s: float = 30.0) -> None:
        """Ask it to stop. Raises LoadTestError when it does not."""
        await self._end(signal.SIGTERM, patience_s)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def destroy(self) -> None:
        """This process and whatever it started."""
        for group in self._groups:
            kill_group(group)
        if self._process is not None:
            self._process.wait()
        self._forget_empty_groups()

    def engine(self) -> psutil.Process | None:
        """Its engine process, if there is one at the moment."""
        try:
            children = psutil.Process(self.pid).children() if self.runs else []
            return next((child for child in children if any(_ENGINE in word for word in child.cmdline())), None)
        except psutil.Error:
            return None

    async def says(self, pattern: str, patience_s: float = 120.0) -> str:
        """The first group of what its output matches. Raises LoadTestError with its last words when it ends first."""
        give_up = time.monotonic() + patience_s
        while True:
            ended, said = not self.runs, self.said()
            if found := re.search(pattern, said, re.MULTILINE):
                return found[1]
            if ended or time.monotonic() > give_up:
                reason = "ended" if ended else f"said nothing like it for {patience_s:.0f} s"
                raise LoadTestError(f"{self.name} {reason} before {pattern!r}: …{said[-_LAST_WORDS:].strip()}")
            await asyncio.sleep(_POLL_S)

    def said(self) -> str:
        """What the present process has said."""
        with self.log.open("rb") as log:
            log.seek(self._said_from)
            return log.read().decode("utf-8", "replace")

    async def _end(self, how: signal.Signals, patience_s: float) -> None:
        assert self._process is not None
        process = self._process
        process.send_signal(how)
        try:
            await asyncio.to_thread(process.wait, patience_s)
        except subprocess.TimeoutExpired:
            raise LoadTestError(f"{self.name} was told {how.name} and runs after {patience_s:.0f} s") from None

    def _forget_empty_groups(self) -> None:
        """Their numbers may be another's by and by."""
        for group in [group for group in self._groups if not _exists(group)]:
            self._groups.remove(group)
            self._reaper.forget(group)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _environment() -> dict[str, str]:
    """Ours without settings of the server, which would change what is tested."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    return inherited | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "PYTHONUNBUFFERED": "1"}
