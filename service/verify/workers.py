"""Where workers come from: the gateway's end of the nursery."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

from service.verify.child import Child
from service.verify.nursery import DONE, PRELOAD, word
from service.verify.progress import Progress

_START_S = 120.0
_STOP_S = 2.0


class CannotStart(Exception):
    """No worker could be started."""


class Workers:
    """Starts the nursery when the first worker is wanted, and again when it has died."""

    def __init__(self, evaluation: str, memory_bytes: int, log_level: str) -> None:
        self._evaluation = evaluation
        self._memory_bytes = memory_bytes
        self._log_level = log_level
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._preloaded = False
        self._one_at_a_time = asyncio.Lock()

    async def preload(self) -> None:
        """From now on workers come with what is slow to import. Raises CannotStart."""
        if not (self._preloaded and self._lives):
            async with self._one_at_a_time:
                await self._start()
                if not self._preloaded:
                    await self._tell(PRELOAD)
                    await self._told()
                    self._preloaded = True

    async def another(self, dead: int = 0) -> Child:
        """A worker; `dead` is the pid of one that was killed, and is not used any more. Raises CannotStart."""
        async with self._one_at_a_time:
            await self._start()
            page = Progress.create()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    await self._tell(dead, theirs.fileno(), page.descriptor)
                return await Child.greet(ours, page, preloaded=self._preloaded)
            except BaseException as error:
                ours.close()
                page.close()
                if isinstance(error, OSError):
                    raise CannotStart(str(error)) from None
                raise

    async def close(self) -> None:
        """End the nursery; the workers have been killed by now."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            self._kill()
            await self._process.wait()

    @property
    def _lives(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _start(self) -> None:
        if self._lives:
            return
        await self.close()
        self._preloaded = False
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._control = ours
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "service.verify.nursery", "--fd", str(theirs.fileno())),
                    *("--evaluation", self._evaluation, "--memory-bytes", str(self._memory_bytes)),
                    *("--log-level", self._log_level),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                raise CannotStart(str(error)) from None
        await self._told()

    async def _tell(self, value: int, *descriptors: int) -> None:
        assert self._control is not None
        try:
            # Eight bytes: there is always room for them.
            socket.send_fds(self._control, [word(value)], descriptors)
        except OSError as error:
            self._kill()
            raise CannotStart(str(error)) from None

    async def _told(self) -> None:
        """It is ready for the next word."""
        assert self._control is not None
        try:
            async with asyncio.timeout(_START_S):
                heard = await asyncio.get_running_loop().sock_recv(self._control, len(DONE))
        except (OSError, TimeoutError):
            heard = b""
        if heard != DONE:
            self._kill()
            raise CannotStart("the process that workers are forked from ended")

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
