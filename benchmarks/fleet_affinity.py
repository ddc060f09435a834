"""Whether a growing trajectory finds its prefix again: `python -m benchmarks.fleet_affinity [--trajectories 64]`.

A gateway, a Valkey and real workers with the demo model. Every trajectory is scored after each of its steps, all of
them side by side, under one worker and under `--workers`; a hit is a token that some worker did not compute because its
cache held it, counted by `usage`. No two trajectories share a question.
"""

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loadtest.fleet import Fleet, Plan
from service.settings import DEMO
from steelyard import AsyncClient

_WORDS = "the a red blue green large small shape circle square lies left of right above below it is not and"


@dataclass(slots=True)
class Counted:
    """Tokens over all calls but a trajectory's first, which no cache can hold."""

    prompt: int = 0
    cached: int = 0

    @property
    def rate(self) -> float:
        return self.cached / self.prompt


async def measure(workers: int, options: argparse.Namespace, folder: Path) -> float:
    """Its prefix hit rate."""
    plan = Plan(
        folder / f"{workers}-workers",
        workers=workers,
        queue=True,
        models=(f"visualprm={DEMO / 'visualprm'}",),
        options=(),
        worker_options=("--threads=1",),
    )
    counted = Counted()
    async with Fleet(plan) as fleet, AsyncClient(fleet.urls[0], max_concurrency=options.in_flight) as client:
        at_once = asyncio.Semaphore(options.in_flight)

        async def grow(number: int) -> None:
            draws = random.Random(number)
            question = f"{number}: {_sentence(draws)}?"
            steps: list[str] = []
            async with at_once:
                for length in range(options.steps):
                    steps.append(_sentence(draws))
                    answer = await client.score_steps(question, [], [list(steps)])
                    assert answer.results[0].status == "ok"
                    if length:
                        counted.prompt += answer.usage.prompt_tokens
                        counted.cached += answer.usage.cached_tokens

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(options.trajectories):
                group.create_task(grow(number))
        print(f"{workers} workers: {counted.cached} of {counted.prompt} tokens were cached, {counted.rate:.4f} "
              f"({time.monotonic() - began:.1f} s)", flush=True)  # fmt: skip
    return counted.rate


def _sentence(draws: random.Random) -> str:
    return " ".join(draws.choices(_WORDS.split(), k=draws.randint(8, 24)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many = (asyncio.run(measure(count, options, Path(folder))) for count in (1, options.workers))
    print(f"{options.workers} workers' hit rate is {many / one:.3f} of one worker's")


if __name__ == "__main__":
    main()
