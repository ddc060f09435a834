"""What an engine's caches really take: anonymous memory over many distinct groups, against the budgets.

`python -m benchmarks.engine_memory [--groups 10000] [--large] [--prefix-mib 64] [--vision-mib 16]`: groups of 4
candidates × 4 steps with a picture of their own, one after another through one engine in a fresh process. What one
forward itself needs is measured before, with caches of nothing.
"""

import argparse
import io
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image

from benchmarks.load_memory import anonymous_bytes
from benchmarks.random_checkpoint import LARGE, write_checkpoint
from benchmarks.tuned import start_tuned
from models.checkpoint import Checkpoint
from models.registry import identify
from service.batching import Budget
from service.encoding import read_model
from service.engine import Engine
from service.engine_counts import EngineCounts
from service.gateway_model import GatewayModel
from service.images import ImageStore
from service.job import Delivery, Job
from service.queue import Intake
from service.scorers import Running, load_scorer
from service.settings import DEMO, MIB
from steelyard.schema import ScoreStepsRequest

_COLORS = ("red", "blue", "green", "yellow", "teal", "gray", "brown", "black")
_WARM = 600


class Stream:
    """A source that makes one group after another, and watches the memory of this process."""

    def __init__(self, model: GatewayModel, groups: int, seed: int) -> None:
        self._model, self._groups, self._words = model, groups, random.Random(seed)
        self._blobs: dict[str, bytes] = {}
        self._images = ImageStore(budget_bytes=MIB, ttl_s=60, max_image_bytes=MIB, max_pixels=MIB, max_call_pixels=MIB)
        self.served = self.tokens = self.most = 0

    def take(self, *, wait: bool) -> Intake | None:
        if not wait:
            return Intake((), frozenset())
        if self.served % 50 == 0 or self.served == self._groups:
            self.most = max(self.most, anonymous_bytes(os.getpid()))
            print(f"\r{self.served}/{self._groups}  {self.most / MIB:.0f} MiB", end="", file=sys.stderr, flush=True)
        if self.served == self._groups:
            return None
        self.served += 1
        return Intake((self._job(),), frozenset())

    def blob(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def begin(self, jobs: Sequence[str]) -> None:
        pass

    def deliver(self, delivery: Delivery) -> None:
        assert all(outcome.status == "ok" for outcome in delivery.outcomes)
        self.tokens += delivery.computed_tokens

    def count(self, counts: EngineCounts) -> None:
        self.counts = counts

    def _job(self) -> Job:
        words, picture = self._words, io.BytesIO()
        pixels = bytes(words.randrange(256) for _ in range(16 * 16 * 3))
        Image.frombytes("RGB", (16, 16), pixels).resize((64, 64)).save(picture, "PNG")
        image = self._images.put(picture.getvalue())
        texts = [[" ".join(words.choices(_COLORS, k=8)) for _ in range(4)] for _ in range(4)]
        question = " ".join(words.choices(_COLORS, k=12))
        request = ScoreStepsRequest(question=question, images=[image.id], candidates=texts)
        ready = self._model.ready(request, self._images)
        self._blobs = dict(ready.blobs)
        return Job(uuid.uuid4().hex, "model", 1, time.monotonic(), None, ready.prefix, ready.candidates, ready.pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--prefix-mib", type=int, default=64)
    parser.add_argument("--vision-mib", type=int, default=16)
    options = parser.parse_args()
    start_tuned("benchmarks.engine_memory")
    with tempfile.TemporaryDirectory() as folder:
        if options.large:
            write_checkpoint(Path(folder), LARGE)
        _measure(Path(folder) if options.large else DEMO / "visualprm", options)


def _measure(directory: Path, options: argparse.Namespace) -> None:
    dtype = torch.bfloat16 if options.large else torch.float32
    budgets = options.prefix_mib * MIB, options.vision_mib * MIB
    base, _ = _in_its_own_process(directory, dtype, min(_WARM, options.groups), (0, 0))
    most, found = _in_its_own_process(directory, dtype, options.groups, budgets)
    more = most - base
    print(found)
    print(f"anonymous memory without caches {base / MIB:.1f} MiB, with them at most {more / MIB:.1f} MiB more")
    print(f"that is {more / sum(budgets):.3f} of the budgets, {sum(budgets) / MIB:.0f} MiB")


def _in_its_own_process(directory: Path, dtype: torch.dtype, groups: int, budgets: tuple[int, int]) -> tuple[int, str]:
    """What one run leaves behind in the heap would be taken for the next one's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_run, directory, dtype, groups, budgets).result()


def _run(directory: Path, dtype: torch.dtype, groups: int, budgets: tuple[int, int]) -> tuple[int, str]:
    """The most anonymous memory in bytes, and what was done, in words."""
    model = read_model("model", Checkpoint(directory), None)
    running = Running(torch.device("cpu"), dtype, budgets[0], batch_invariant=False)
    scorer = load_scorer(identify(directory), directory, running, lambda _done, _total: None)
    stream = Stream(model, groups, seed=groups)
    Engine({"model": scorer}, stream, Budget(16_384, 64), budgets[1]).run()
    print(file=sys.stderr)
    return stream.most, f"{groups} distinct groups, {stream.tokens} tokens computed, {dtype}: {stream.counts}"


if __name__ == "__main__":
    main()
