"""`python -m loadtest.chaos --groups 10000 --faults 100`: nothing lost, nothing doubled, no wrong bit, whatever dies.

Right answers come from a single process in `--batch-invariant` mode. Then every group is sent under an id of its own to
random gateways of a fleet, and asked for again until its deadline, while faults fall among them; in the end every id
is asked for once more from another gateway. Exit status 1 if an id is lost, duplicated or wrong, refused to
the end, or not answered again.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import uvloop

from loadtest.errors import LoadTestError
from loadtest.faults import FAULTS, Fault, draw_faults
from loadtest.fleet import Fleet, Plan
from loadtest.ledger import Ledger, Verdict
from loadtest.pace import Pace
from loadtest.pursuit import Pursuit
from loadtest.report import Json
from loadtest.rows import Rows, rows_of
from loadtest.workload import Group, Shape, groups
from steelyard import AsyncClient, Retry

_DEMO = Path(__file__).parents[1] / "demo" / "visualprm"
_PROGRESS_S = 10.0
_SHOWN = 5

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is sent and what goes wrong."""

    groups: int
    faults: int
    distinct: int
    in_flight: int
    deadline_s: float
    seed: int
    kinds: tuple[str, ...] = ()
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and how it came about."""

    verdict: Verdict
    attempts: Mapping[str, int]
    injected: Mapping[str, int]
    seconds: float


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    queue = options.queue == "redis"
    models = tuple(options.model) or (f"visualprm={_DEMO}",)
    campaign = Campaign(
        groups=options.groups,
        faults=options.faults,
        distinct=min(options.distinct or options.groups, options.groups),
        in_flight=options.in_flight,
        deadline_s=options.deadline,
        seed=options.seed,
        kinds=tuple(options.fault),
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = Path(options.logs or temporary)
        alone = Plan(folder / "alone", models=models)
        fleet = Plan(
            folder / "fleet",
            gateways=options.gateways,
            workers=options.workers if queue else 0,
            queue=queue,
            models=models,
            gateway_options=tuple(options.gateway_option),
            worker_options=("--threads=1", *options.worker_option),
            fsync=options.fsync,
        )
        try:
            outcome = uvloop.run(run(campaign, alone, fleet))
        except LoadTestError as error:
            print(f"chaos: {error}", file=sys.stderr)
            return 1
    _print(outcome)
    print(json.dumps(_as_json(campaign, outcome), indent=2))
    return 0 if outcome.verdict.holds else 1


async def run(campaign: Campaign, alone: Plan, fleet: Plan) -> Outcome:
    """Raises LoadTestError when the servers do not start."""
    asked = list(islice(groups(campaign.shape, campaign.seed), campaign.distinct))
    _say(f"{campaign.distinct} right answers from one process")
    async with Fleet(alone) as single:
        ledger = Ledger(await _right_answers(single.urls[0], asked, campaign))
    _say(f"a fleet of {fleet.gateways} gateways and {fleet.workers} workers; logs are in {fleet.folder}")
    began = time.monotonic()
    async with Fleet(fleet) as started, _clients(started.urls, campaign.in_flight) as clients:
        draws = random.Random(campaign.seed)
        pursuit = Pursuit(clients, asked, ledger, campaign.deadline_s, draws)
        faults = draw_faults(fleet, campaign.faults, draws, campaign.kinds)
        pace = Pace(campaign.groups, len(faults))
        injected: Counter[str] = Counter()
        progress = asyncio.create_task(_report(campaign, ledger, pursuit, pace))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_inject_all(started, faults, pace, random.Random(campaign.seed + 1), injected))
                both.create_task(_send_all(campaign, pursuit, pace))
            _say("every id once more, from another gateway")
            await _each(ledger.answered, campaign.in_flight, pursuit.again)
        finally:
            progress.cancel()
    return Outcome(ledger.verdict(), dict(pursuit.attempts), dict(injected), time.monotonic() - began)


async def _right_answers(url: str, asked: Sequence[Group], campaign: Campaign) -> list[Rows]:
    right: list[Rows] = [()] * len(asked)
    async with AsyncClient(url, max_concurrency=campaign.in_flight) as client:

        async def score(number: int) -> None:
            group = asked[number]
            answer = await client.score_steps(group.question, group.pictures, group.candidates)
            right[number] = rows_of(answer, len(group.candidates))

        await _each(range(len(asked)), campaign.in_flight, score)
    if any(None in rows for rows in right):
        raise LoadTestError("the single process did not score every group")
    return right


async def _send_all(campaign: Campaign, pursuit: Pursuit, pace: Pace) -> None:
    async def send(number: int) -> None:
        await pace.may_send(number)
        await pursuit.first(f"chaos-{campaign.seed}-{number}", number % campaign.distinct)
        await pace.settle()

    await _each(range(campaign.groups), campaign.in_flight, send)


async def _inject_all(
    fleet: Fleet, faults: Sequence[Fault], pace: Pace, draws: random.Random, injected: Counter[str]
) -> None:
    for number, fault in enumerate(faults, 1):
        await pace.may_inject()
        did = await fault.inject(fleet, draws)
        injected[fault.name] += 1
        _say(f"fault {number}/{len(faults)}: {fault.name} {did}")
        await pace.inject()


async def _each(items: Iterable[Item], at_once: int, act: Callable[[Item], Awaitable[None]]) -> None:
    """Act on every item, so many at a time."""
    left = iter(items)

    async def take() -> None:
        for item in left:
            await act(item)

    async with asyncio.TaskGroup() as takers:
        for _ in range(at_once):
            takers.create_task(take())


@asynccontextmanager
async def _clients(urls: Sequence[str], in_flight: int) -> AsyncIterator[dict[str, AsyncClient]]:
    """One a gateway, which make each attempt once: it is the pursuit that tries again."""
    async with AsyncExitStack() as stack:
        once = Retry(max_retries=0)
        yield {
            url: await stack.enter_async_context(AsyncClient(url, retry=once, max_concurrency=in_flight))
            for url in urls
        }


async def _report(campaign: Campaign, ledger: Ledger, pursuit: Pursuit, pace: Pace) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS_S)
        verdict = ledger.verdict()
        _say(
            f"{time.monotonic() - began:.0f} s: {verdict.answered}/{campaign.groups} answered, "
            f"{pace.injected}/{campaign.faults} faults, {pursuit.attempts.total()} attempts, "
            f"{len(verdict.duplicated)} duplicated, {len(verdict.wrong)} wrong"
        )


def _print(outcome: Outcome) -> None:
    verdict = outcome.verdict
    _say("faults: " + (", ".join(f"{name} × {count}" for name, count in sorted(outcome.injected.items())) or "none"))
    _say("attempts: " + ", ".join(f"{name} × {count}" for name, count in sorted(outcome.attempts.items())))
    _say(f"{outcome.seconds:.0f} s: accepted {verdict.accepted}, answered {verdict.answered}")
    for name, ids in verdict.broken.items():
        _say(f"{name} {len(ids)}" + (f": {', '.join(ids[:_SHOWN])} …" if ids else ""))


def _as_json(campaign: Campaign, outcome: Outcome) -> Json:
    verdict = outcome.verdict
    return {
        "groups": campaign.groups,
        "seed": campaign.seed,
        "accepted": verdict.accepted,
        "answered": verdict.answered,
        **{name: len(ids) for name, ids in verdict.broken.items()},
        "ids": {name: ids[:100] for name, ids in verdict.broken.items()},
        "attempts": outcome.attempts,
        "faults": outcome.injected,
        "seconds": outcome.seconds,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--distinct", type=int, help="different groups, reused under other ids; default all of them")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="clients that wait at a time (default 64)")
    parser.add_argument("--deadline", type=float, default=300.0, help="seconds of a client's patience (default 300)")
    parser.add_argument("--queue", choices=("redis", "memory"), default="redis", help="memory: no workers, no Redis")
    parser.add_argument("--fault", action="append", default=[], choices=[fault.name for fault in FAULTS], help="only")
    parser.add_argument("--model", action="append", default=[], help="NAME=DIRECTORY; default the demo's step model")
    parser.add_argument("--gateway-option", action="append", default=[], help="--gateway-option=--replay-s=60, …")
    parser.add_argument("--worker-option", action="append", default=[])
    parser.add_argument("--fsync", choices=("everysec", "always"), default="everysec", help="of the append-only file")
    parser.add_argument("--logs", help="folder that keeps the servers' logs; default one that is removed")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
