"""An engine process whose forward takes FIXED_COST_MS a job, one job a batch: its capacity is known beforehand."""

import dataclasses
import os
import time
from collections.abc import Generator, Mapping, Sequence

from benchmarks.stub_engine import Nothing, Stub, serve
from service.batching import Waiting
from service.engine import Features, Logits
from service.job import PictureKey
from service.queue import Intake
from service.queue.pipe import PipeSource

COST_MS = "FIXED_COST_MS"
# Between two layers of a real forward an online job may pass it.
_PIECES = 8


class Apart(PipeSource):
    """Jobs that are never put into one batch, as the plain path's are not."""

    def take(self, *, wait: bool) -> Intake | None:
        intake = super().take(wait=wait)
        if intake is None:
            return None
        return dataclasses.replace(intake, jobs=tuple(dataclasses.replace(job, plain=True) for job in intake.jobs))


class Sleeper(Stub):
    """Every step has the log-odds 0, after some time."""

    def __init__(self, cost_s: float) -> None:
        self._cost_s = cost_s

    def begin(self, batch: Sequence[Waiting]) -> "Sleep":
        return Sleep(batch, self._cost_s)


class Sleep(Nothing):
    """A forward that is nothing but its time."""

    def __init__(self, batch: Sequence[Waiting], cost_s: float) -> None:
        super().__init__(batch)
        self._cost_s = cost_s

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        for _ in range(_PIECES):
            time.sleep(self._cost_s / _PIECES)
            yield
        return (yield from super().run(features))


if __name__ == "__main__":
    serve(Sleeper(float(os.environ.get(COST_MS, "40")) / 1000), Apart)
