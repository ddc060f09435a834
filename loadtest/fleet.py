"""A fleet as real processes: Valkey, a proxy before it, gateways and workers; or gateways with their own engines."""

import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.reaper import Reaper
from loadtest.server_process import ServerProcess
from loadtest.tcp_proxy import TcpProxy
from loadtest.valkey import Valkey
from steelyard import AsyncClient, Retry
from steelyard.errors import SteelyardError

_READY = r"is ready: (http://\S+?)/docs"
_PATIENCE_S = 180.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. Without a queue each gateway is a whole server, and `workers` must be 0."""

    folder: Path
    gateways: int = 1
    workers: int = 0
    queue: bool = False
    models: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--batch-invariant",)
    gateway_options: tuple[str, ...] = ()
    worker_options: tuple[str, ...] = ()
    fsync: str = "everysec"


class Gateway:
    """A gateway and its address, which it keeps when it is started again."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.url = ""

    async def await_address(self) -> None:
        """Once it has said that it is ready. Raises LoadTestError."""
        self.url = await self.process.says(_READY, _PATIENCE_S)
        port = re.sub(r".*:", "", self.url)
        self.process.command = tuple(f"--port={port}" if word == "--port=0" else word for word in self.process.command)


class Fleet:
    """Started and stopped as a whole; use it in an `async with`. Everything is killed in the end, whatever happens."""

    def __init__(self, plan: Plan) -> None:
        assert plan.queue or not plan.workers
        self.plan = plan
        self._reaper: Reaper | None = None
        self.valkey: Valkey | None = None
        self.proxy: TcpProxy | None = None
        self.gateways: list[Gateway] = []
        self.workers: list[ServerProcess] = []

    async def __aenter__(self) -> "Fleet":
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def processes(self) -> list[ServerProcess]:
        stored = [self.valkey.process] if self.valkey is not None else []
        return [*(gateway.process for gateway in self.gateways), *self.workers, *stored]

    @property
    def urls(self) -> list[str]:
        return [gateway.url for gateway in self.gateways]

    @property
    def engine_owners(self) -> list[ServerProcess]:
        """The processes that have an engine as their child."""
        return self.workers if self.plan.queue else [gateway.process for gateway in self.gateways]

    def worker_command(self, clock_seed: int | None = None) -> Sequence[str]:
        """With a seed, under a wall clock that jumps."""
        clock = [] if clock_seed is None else ["-m", "loadtest.jumping_clock", str(clock_seed)]
        return (sys.executable, *clock, "-m", "service.worker", *self._common, *self.plan.worker_options)

    async def close(self) -> None:
        for process in self.processes:
            process.destroy()
        if self.proxy is not None:
            await self.proxy.close()
        if self._reaper is not None:
            self._reaper.close()

    async def await_ready(self, patience_s: float = _PATIENCE_S) -> None:
        """Until every gateway says that it scores as it should. Raises LoadTestError."""
        for gateway in self.gateways:
            try:
                async with asyncio.timeout(patience_s), AsyncClient(gateway.url, retry=Retry(max_retries=0)) as client:
                    await _until_ready(client)
            except TimeoutError:
                raise LoadTestError(f"{gateway.process.name} is not ready after {patience_s:.0f} s") from None

    async def _start(self) -> None:
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        self._reaper = Reaper()
        if self.plan.queue:
            self.valkey = Valkey(self.plan.folder, self._reaper, self.plan.fsync)
            await self.valkey.start()
            self.proxy = TcpProxy(self.valkey.port)
            await self.proxy.start()
        self.workers = [
            ServerProcess(f"worker-{number}", self.worker_command(), self.plan.folder, self._reaper)
            for number in range(self.plan.workers)
        ]
        self.gateways = [
            Gateway(ServerProcess(f"gateway-{number}", self._gateway_command(), self.plan.folder, self._reaper))
            for number in range(self.plan.gateways)
        ]
        for process in (*self.workers, *(gateway.process for gateway in self.gateways)):
            process.start()
        await asyncio.gather(*(gateway.await_address() for gateway in self.gateways))
        await self.await_ready()

    def _gateway_command(self) -> Sequence[str]:
        own = () if self.plan.queue else ("--threads=1",)
        return (sys.executable, "-m", "service", "--port=0", *own, *self._common, *self.plan.gateway_options)

    @property
    def _common(self) -> Sequence[str]:
        queue = () if self.proxy is None else (f"--queue=redis://127.0.0.1:{self.proxy.port}",)
        return (*queue, *(f"--model={model}" for model in self.plan.models), *self.plan.options)


async def _until_ready(client: AsyncClient) -> None:
    ready = False
    while not ready:
        await asyncio.sleep(_POLL_S)
        with suppress(SteelyardError):
            ready = await client.ready()
