"""Clients that open where they are first needed: one a process for threads, one an event loop for tasks."""

import asyncio
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from steelyard.client import AsyncClient, Client
from steelyard.retry import Retry

Opened = TypeVar("Opened", Client, AsyncClient)


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of the clients; address and key are looked up in the environment of the process that opens them."""

    url: str | None
    api_key: str | None = field(repr=False)
    max_concurrency: int
    retry: Retry | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Threaded:
    """A client, and threads to call it from: starting one costs more than a call."""

    client: Client
    pool: ThreadPoolExecutor

    def close(self) -> None:
        """Calls under way fail."""
        self.client.close()
        self.pool.shutdown(wait=False, cancel_futures=True)


class Connections:
    """May be pickled, and used after a fork: nothing open is taken along.

    There is no lock, which a fork could leave held for ever: what two threads open at once, one of them closes again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of_processes: dict[int, Threaded] = {}
        self._of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient]
        self._of_loops = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[type["Connections"], tuple[Settings]]:
        return type(self), (self._settings,)

    def for_threads(self) -> Threaded:
        """Of this process. Raises InvalidCall for an address or a key that is none."""
        process = os.getpid()
        if process not in self._of_processes:
            client = self._open(Client)
            opened = Threaded(client, ThreadPoolExecutor(self._settings.max_concurrency, "steelyard"))
            if self._of_processes.setdefault(process, opened) is not opened:
                opened.close()
        return self._of_processes[process]

    def for_tasks(self) -> AsyncClient:
        """Of the running loop. Raises InvalidCall for an address or a key that is none."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = self._open(AsyncClient)
        return self._of_loops[loop]

    def close(self) -> None:
        """Those of this process's threads; the next call opens others."""
        threaded = self._of_processes.pop(os.getpid(), None)
        if threaded is not None:
            threaded.close()

    async def aclose(self) -> None:
        """Those of the running loop; the next call opens others."""
        client = self._of_loops.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _open(self, kind: type[Opened]) -> Opened:
        return kind(
            self._settings.url,
            api_key=self._settings.api_key,
            max_concurrency=self._settings.max_concurrency,
            retry=self._settings.retry,
            timeout_s=self._settings.timeout_s,
        )
