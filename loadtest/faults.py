"""What goes wrong on purpose. Each fault does its harm, ends it, and says in a few words what it did."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from loadtest.fleet import Fleet, Gateway, Plan
from loadtest.server_process import ServerProcess
from loadtest.tcp_proxy import TcpProxy
from loadtest.valkey import Valkey

_SHORTEST_S, _LONGEST_S = 1.0, 5.0
_ENGINE_PATIENCE_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of harm, and whether such a fleet has what it harms."""

    name: str
    applies: Callable[[Plan], bool]
    inject: Callable[[Fleet, random.Random], Awaitable[str]]


async def kill_worker(fleet: Fleet, draws: random.Random) -> str:
    worker = draws.choice(fleet.workers)
    await _start_again(worker)
    return worker.name


async def kill_engine(fleet: Fleet, draws: random.Random) -> str:
    """Whoever owns it starts another one."""
    owner, engine = await _some_engine(fleet, draws)
    if engine is None:
        return "no engine was there to be killed"
    engine.kill()
    return f"of {owner.name}"


async def kill_gateway(fleet: Fleet, draws: random.Random) -> str:
    gateway: Gateway = draws.choice(fleet.gateways)
    await _start_again(gateway.process)
    return gateway.process.name


async def kill_redis(fleet: Fleet, _: random.Random) -> str:
    valkey = _valkey(fleet)
    await valkey.process.kill()
    await valkey.start()
    return "and started on the same data"


async def restart_redis(fleet: Fleet, _: random.Random) -> str:
    valkey = _valkey(fleet)
    await valkey.process.terminate()
    await valkey.start()
    return "told to stop and started"


async def pause_redis(fleet: Fleet, draws: random.Random) -> str:
    """Stopped, its connections stay open: nobody is told that it does not answer."""
    process, seconds = _valkey(fleet).process, _draw_s(draws)
    process.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        process.resume()
    return f"for {seconds:.1f} s"


async def cut_connections(fleet: Fleet, _: random.Random) -> str:
    return f"{_proxy(fleet).cut()} connections"


async def pause_network(fleet: Fleet, draws: random.Random) -> str:
    proxy, seconds = _proxy(fleet), _draw_s(draws)
    proxy.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.resume()
    return f"for {seconds:.1f} s"


async def refuse_connections(fleet: Fleet, draws: random.Random) -> str:
    proxy, seconds = _proxy(fleet), _draw_s(draws)
    await proxy.refuse()
    try:
        await asyncio.sleep(seconds)
    finally:
        await proxy.accept()
    return f"for {seconds:.1f} s"


async def jump_clock(fleet: Fleet, draws: random.Random) -> str:
    """The worker lives with it until it is killed the next time."""
    worker = draws.choice(fleet.workers)
    await worker.kill()
    worker.command = tuple(fleet.worker_command(clock_seed=draws.randrange(2**32)))
    worker.start()
    worker.command = tuple(fleet.worker_command())
    return worker.name


FAULTS = (
    Fault("worker killed", lambda plan: plan.workers > 0, kill_worker),
    Fault("engine killed", lambda plan: plan.workers > 0 or not plan.queue, kill_engine),
    Fault("gateway killed", lambda plan: plan.gateways > 0, kill_gateway),
    Fault("redis killed", lambda plan: plan.queue, kill_redis),
    Fault("redis restarted", lambda plan: plan.queue, restart_redis),
    Fault("redis paused", lambda plan: plan.queue, pause_redis),
    Fault("connections cut", lambda plan: plan.queue, cut_connections),
    Fault("network paused", lambda plan: plan.queue, pause_network),
    Fault("connections refused", lambda plan: plan.queue, refuse_connections),
    Fault("clock jumps", lambda plan: plan.workers > 0, jump_clock),
)


def draw_faults(plan: Plan, count: int, draws: random.Random, names: tuple[str, ...] = ()) -> list[Fault]:
    """So many of those that apply (and are named, if any are), each kind as often as the next, in random order."""
    kinds = [fault for fault in FAULTS if fault.applies(plan) and (not names or fault.name in names)]
    drawn = [kinds[number % len(kinds)] for number in range(count)] if kinds else []
    draws.shuffle(drawn)
    return drawn


async def _start_again(process: ServerProcess) -> None:
    await process.kill()
    process.start()


async def _some_engine(fleet: Fleet, draws: random.Random) -> tuple[ServerProcess, psutil.Process | None]:
    """One of those that are there; waits for the first when all are being started."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _ENGINE_PATIENCE_S
    while True:
        owners = draws.sample(fleet.engine_owners, len(fleet.engine_owners))
        for owner in owners:
            if (engine := owner.engine()) is not None:
                return owner, engine
        if loop.time() > give_up:
            return owners[0], None
        await asyncio.sleep(_POLL_S)


def _draw_s(draws: random.Random) -> float:
    return draws.uniform(_SHORTEST_S, _LONGEST_S)


def _valkey(fleet: Fleet) -> Valkey:
    assert fleet.valkey is not None
    return fleet.valkey


def _proxy(fleet: Fleet) -> TcpProxy:
    assert fleet.proxy is not None
    return fleet.proxy
