"""Many groups at once through the service, against the same engine in this process without a service.

`python -m benchmarks.service_throughput [--checkpoint DIR | --large] [--groups 32] [--rounds 3]`: text groups of
8 candidates × 8 steps, every one another text, so that no cache helps either side. Offline, the groups are tokenised
before the clock starts. `--large` writes the engine benchmark's decoder as a checkpoint first.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.interleaved import interleave
from benchmarks.random_checkpoint import LARGE, write_checkpoint
from benchmarks.tuned import start_tuned
from models.checkpoint import Checkpoint
from models.registry import identify
from service.batching import Budget
from service.encoding import read_model
from service.engine import Engine
from service.engine_counts import EngineCounts
from service.images import ImageStore
from service.job import Delivery, Job
from service.queue import Intake
from service.scorers import Running, load_scorer
from service.settings import DEMO
from steelyard import AsyncClient
from steelyard.schema import ScoreStepsRequest

SERVICE, OFFLINE = "service", "offline"
_CANDIDATES, _STEPS = 8, 8
_BUDGET = Budget(16_384, 64)
_COLORS = ("red", "blue", "green", "yellow", "teal", "gray", "brown", "black")


class AllAtOnce:
    """A source of jobs that are all there from the start."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self.deliveries: list[Delivery] = []

    def take(self, *, wait: bool) -> Intake | None:
        jobs, self._jobs = self._jobs, ()
        return Intake(jobs, frozenset()) if jobs or not wait else None

    def blob(self, digest: str) -> bytes | None:
        return None

    def begin(self, jobs: Sequence[str]) -> None:
        pass

    def deliver(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def count(self, counts: EngineCounts) -> None:
        pass


class Offline:
    """A checkpoint as the engine has it, with none of the service around it."""

    def __init__(self, directory: Path, dtype: torch.dtype) -> None:
        self._model = read_model("model", Checkpoint(directory), None)
        running = Running(torch.device("cpu"), dtype, 2**28, batch_invariant=False)
        self._scorer = load_scorer(identify(directory), directory, running, lambda _done, _total: None)
        self._images = ImageStore(budget_bytes=0, ttl_s=1, max_image_bytes=1, max_pixels=1, max_call_pixels=1)

    def jobs(self, groups: Sequence[Mapping[str, Any]]) -> list[Job]:
        found = []
        for group in groups:
            ready = self._model.ready(ScoreStepsRequest.model_validate(group), self._images)
            found.append(Job(uuid.uuid4().hex, "model", 1, time.monotonic(), None, ready.prefix, ready.candidates))
        return found

    def run(self, jobs: Sequence[Job]) -> int:
        """Returns the tokens that it computed."""
        source = AllAtOnce(jobs)
        Engine({"model": self._scorer}, source, _BUDGET).run()
        outcomes = [outcome for delivery in source.deliveries for outcome in delivery.outcomes]
        assert all(outcome.status == "ok" for outcome in outcomes)
        assert len(outcomes) == len(jobs) * _CANDIDATES
        return sum(delivery.computed_tokens for delivery in source.deliveries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEMO / "visualprm")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--words", type=int, default=8, help="of each step")
    parser.add_argument("--asked", type=int, default=20, help="words of each question")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    start_tuned("benchmarks.service_throughput")
    with ExitStack() as stack:
        directory = options.checkpoint
        if options.large:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_checkpoint(directory, LARGE)
        url = stack.enter_context(_server(directory, options.dtype))
        _compare(Offline(directory, getattr(torch, options.dtype)), url, options)


def _compare(offline: Offline, url: str, options: argparse.Namespace) -> None:
    words = random.Random(0)
    tokens: list[int] = []

    def groups() -> list[dict[str, Any]]:
        return [_group(words, options.asked, options.words) for _ in range(options.groups)]

    def serve() -> float:
        started = time.perf_counter()
        body = groups()
        prepared = time.perf_counter() - started
        asyncio.run(_ask(url, body))
        taken = time.perf_counter() - started
        return (taken - prepared) / taken

    def run() -> float:
        started = time.perf_counter()
        jobs = offline.jobs(groups())
        prepared = time.perf_counter() - started
        tokens.append(offline.run(jobs))
        taken = time.perf_counter() - started
        return (taken - prepared) / taken

    with torch.inference_mode():
        serve()
        run()
        times = interleave({SERVICE: serve, OFFLINE: run}, options.rounds)
    ratio, least, most = times.ratio(OFFLINE, SERVICE)
    print(f"{options.groups} groups, {tokens[-1]} tokens computed, {options.dtype}, torch {torch.__version__}")
    print(f"service {times.median(SERVICE):.3f} s, offline {times.median(OFFLINE):.3f} s")
    print(f"the service has {ratio:.1%} of the offline engine's throughput ({least:.1%}–{most:.1%})")


async def _ask(url: str, groups: Sequence[Mapping[str, Any]]) -> None:
    async with AsyncClient(url) as client:
        answers = await asyncio.gather(*(client.score_steps(images=[], **group) for group in groups))
    assert all(result.status == "ok" for answer in answers for result in answer.results)


def _group(words: random.Random, asked: int, each: int) -> dict[str, Any]:
    def text(count: int) -> str:
        return " ".join(words.choice(_COLORS) for _ in range(count))

    candidates = [[text(each) for _ in range(_STEPS)] for _ in range(_CANDIDATES)]
    return {"question": text(asked), "candidates": candidates}


@contextmanager
def _server(directory: Path, dtype: str) -> Iterator[str]:
    command = [sys.executable, "-m", "service", "--model", f"model={directory}", "--dtype", dtype, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if "is ready" in line)
            yield f"http://127.0.0.1:{json.loads(ready.rsplit(':', 1)[1].partition('/')[0])}"
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
