"""`python -m loadtest.overload`: ten times what a server can do, for a minute. Exit status 1 unless all checks hold.

The server is a real gateway over an engine whose forward sleeps a fixed time a group, so that its capacity is known.
First `online` groups come alone, then the same among a flood of `train` groups; then the flood ends. Its caches of
answers and texts are small, so that they are full early and memory that still grows is a leak.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from loadtest.bodies import Bodies
from loadtest.errors import LoadTestError
from loadtest.generators import Load
from loadtest.memory import Watch
from loadtest.open_loop import OpenLoop
from loadtest.reaper import Reaper
from loadtest.recovery import Recovery, await_normal
from loadtest.report import Json, as_json, table
from loadtest.server_process import ServerProcess
from loadtest.tally import Tally
from loadtest.target import Target, prepare_for
from loadtest.workload import Shape

_DEMO = Path(__file__).parents[1] / "demo" / "visualprm"
_SMALL_CACHES = ("--replay-bytes=1048576", "--token-cache-bytes=262144")
_PATIENCE_S = 60.0
# Waiting groups fill what there is for them, and caches fill up, before memory has to stand still.
_SETTLED_S = 15.0
_MOST_ONLINE_REFUSED = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What has to hold."""

    online_ratio: float = 2.0
    mib_per_minute: float = 1.0
    normal_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    says: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Course:
    """What was measured: `slopes` in MiB a minute and `sizes` in MiB by process."""

    unloaded: Tally
    loaded: Tally
    slopes: dict[str, float]
    sizes: dict[str, tuple[float, float]]
    recovery: Recovery


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            course = uvloop.run(_run(options, Path(folder)))
    except LoadTestError as error:
        print(f"overload: {error}", file=sys.stderr)
        return 1
    checks = list(judge(course, Limits()))
    _print(course, checks)
    print(json.dumps(_as_json(course, checks), indent=2))
    return 0 if all(check.holds for check in checks) else 1


def judge(course: Course, limits: Limits) -> Iterator[Check]:
    """Every promise of a server that is asked for too much, and whether it was kept."""
    series = course.loaded.series.values()
    improper = sum(found.improper for found in series)
    unsent = sum(found.unsent for found in series)
    yield Check(f"{improper} requests got neither 200 nor 429 with Retry-After", improper == 0)
    yield Check(f"{unsent} requests could not be sent", unsent == 0)
    unloaded_s, loaded_s = (_online_p99(tally) for tally in (course.unloaded, course.loaded))
    ratio = loaded_s / unloaded_s
    yield Check(
        f"online p99 {loaded_s * 1000:.1f} ms under load, {unloaded_s * 1000:.1f} ms alone: "
        f"× {ratio:.2f} (at most {limits.online_ratio:g})",
        ratio <= limits.online_ratio,
    )
    online = course.loaded.of("online")
    refused = online.planned - online.accepted.count
    # A percentile of the few that were let in would say nothing.
    yield Check(
        f"{refused} of {online.planned} online groups were not scored (at most 1 %)",
        refused <= _MOST_ONLINE_REFUSED * online.planned,
    )
    for name, slope in course.slopes.items():
        first, last = course.sizes[name]
        says = f"{name}: {slope:+.2f} MiB a minute, {first:.1f} MiB before and {last:.1f} MiB after"
        yield Check(f"{says} (at most {limits.mib_per_minute:g} a minute)", slope <= limits.mib_per_minute)
    recovery = course.recovery
    says = f"normal again after {recovery.all_s:.1f} s (online after {recovery.online_s:.1f} s; at most "
    yield Check(f"{says}{limits.normal_s:g})", recovery.all_s <= limits.normal_s)


async def _run(options: argparse.Namespace, folder: Path) -> Course:
    capacity = 1000 / options.cost_ms
    online_rate = options.online_share * capacity
    async with _stub_server(options, folder) as (process, url):
        target = Target((url,), Shape(pictures=0.0))
        bodies = await asyncio.to_thread(prepare_for, target)
        _say(f"capacity {capacity:g} groups a second; online alone, {online_rate:g} a second")
        await _fire(url, bodies, Load(5.0, online_rate=online_rate, seed=1), 0)
        unloaded = await _fire(url, bodies, Load(options.seconds, online_rate=online_rate), 10**6)
        flood = options.factor * capacity
        _say(f"now {flood:g} train groups a second beside them")
        watch = Watch("gateway", process.pid)
        watching = asyncio.create_task(watch.run())
        async with OpenLoop([url], bodies) as loop:
            load = Load(options.seconds, rate=flood, online_rate=online_rate)
            begun, cpu = time.monotonic(), time.process_time()
            progress = asyncio.create_task(_report(loop))
            await loop.send(load.plan(), begun, 2 * 10**6)
            loop.tally.seconds, loop.tally.cpu_s = time.monotonic() - begun, time.process_time() - cpu
            watching.cancel()
            _say("the flood has ended")
            recovery = await await_normal(url, bodies, 2 * _online_p99(unloaded), _PATIENCE_S)
            await loop.drain(_PATIENCE_S)
            progress.cancel()
        growths = watch.growths.values()
        return Course(
            unloaded,
            loop.tally,
            {growth.name: growth.slope(min(_SETTLED_S, options.seconds / 4)) for growth in growths},
            {growth.name: (growth.samples[0][1], growth.samples[-1][1]) for growth in growths},
            recovery,
        )


@asynccontextmanager
async def _stub_server(options: argparse.Namespace, folder: Path) -> AsyncIterator[tuple[ServerProcess, str]]:
    """Raises LoadTestError when it does not start."""
    module, engine = "benchmarks.stub_server", "benchmarks.fixed_cost_engine"
    command = [sys.executable, "-m", module, str(_DEMO), engine, *_SMALL_CACHES, *options.server_option]
    reaper = Reaper()
    environment = os.environ | {"FIXED_COST_MS": str(options.cost_ms)}
    process = ServerProcess("server", command, folder, reaper, environment)
    try:
        process.start()
        port = await process.says(r"^(\d+)$")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.destroy()
        reaper.close()


async def _fire(url: str, bodies: Bodies, load: Load, first: int) -> Tally:
    async with OpenLoop([url], bodies) as loop:
        return await loop.run(load.plan(), drain_s=_PATIENCE_S, first=first)


async def _report(loop: OpenLoop) -> None:
    while True:
        await asyncio.sleep(10.0)
        counts = {priority: dict(series.statuses) for priority, series in sorted(loop.tally.series.items())}
        _say(f"{loop.under_way} under way, answers by status {counts}")


def _online_p99(tally: Tally) -> float:
    """Seconds; infinite when not one was scored."""
    found = tally.of("online").accepted.percentile(99)
    return math.inf if math.isnan(found) else found


def _print(course: Course, checks: list[Check]) -> None:
    _say(f"\nonline alone\n{table(course.unloaded)}\n\noverloaded\n{table(course.loaded)}\n")
    for check in checks:
        _say(f"{'held  ' if check.holds else 'BROKEN'}  {check.says}")


def _as_json(course: Course, checks: list[Check]) -> Json:
    return {
        "unloaded": as_json(course.unloaded),
        "loaded": as_json(course.loaded),
        "mib_per_minute": course.slopes,
        "recovery_s": {"online": course.recovery.online_s, "all": course.recovery.all_s},
        "checks": [asdict(check) for check in checks],
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cost-ms", type=float, default=40.0, help="of a group's forward (default 40)")
    parser.add_argument("--factor", type=float, default=10.0, help="times the capacity (default 10)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase (default 60)")
    parser.add_argument("--online-share", type=float, default=0.2, help="online groups, of the capacity (default 0.2)")
    parser.add_argument("--server-option", action="append", default=[], help="--server-option=--max-waiting=100, …")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
