"""A source and a scorer that a test drives the engine's loop with."""

import dataclasses
import time
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from models.prefix_cache import CacheCounts
from service.batching import Budget, Waiting
from service.engine import DeviceFault, Engine, Features, Logits, OutOfMemory
from service.engine_counts import EngineCounts
from service.job import Delivery, Job, JobCandidate, JobPicture, Outcome, PictureKey
from service.queue import Intake

PICTURE = JobPicture(("sha256:aa",), False, (1, 1), 1, 0, 4)
OTHER = dataclasses.replace(PICTURE, digests=("sha256:bb",))


class Script:
    """A source that hands over what the test wrote down, then says stop.

    An intake each time that it is asked, in mid-forward too; with `between`, only to an idle engine.
    """

    def __init__(self, *intakes: Intake, blobs: Mapping[str, bytes] | None = None, between: bool = False) -> None:
        self._intakes = list(intakes)
        self._between = between
        self._blobs = {PICTURE.digests[0]: b"pixels"} if blobs is None else blobs
        self.delivered: list[Delivery] = []
        self.begun: list[tuple[str, ...]] = []

    def take(self, *, wait: bool) -> Intake | None:
        if self._intakes and (wait or not self._between):
            return self._intakes.pop(0)
        return None if wait else Intake((), frozenset())

    def blob(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def begin(self, jobs: Sequence[str]) -> None:
        self.begun.append(tuple(jobs))

    def deliver(self, delivery: Delivery) -> None:
        self.delivered.append(delivery)

    def count(self, counts: EngineCounts) -> None:
        self.counts = counts

    @property
    def order(self) -> list[str]:
        """The jobs in the order of their deliveries."""
        return [delivery.job for delivery in self.delivered]

    def statuses(self, job: str) -> list[str]:
        return [outcome.status for _, outcome in sorted(self.outcomes(job).items())]

    def outcomes(self, job: str) -> dict[int, Outcome]:
        return {o.candidate: o for delivery in self.delivered if delivery.job == job for o in delivery.outcomes}


class Halver:
    """A scorer whose logit is half of the candidate's first id; 99 gives NaN.

    Ids in `poison` raise, those in `faults` are faults of the device. With `memory`, so many tokens may be in hand. A
    picture takes so many `pauses`.
    """

    def __init__(self, *poison: int, faults: Sequence[int] = (), memory: int | None = None, pauses: int = 0) -> None:
        self._poison, self._faults = poison, faults
        self.pauses = pauses
        self.memory = memory
        self.encoded: list[str] = []
        # The candidates of each forward that was run, and the first ids of each that came to its end.
        self.batches: list[int] = []
        self.finished: list[list[int]] = []
        self.begun = 0
        self.open: list[Halves] = []

    counts = CacheCounts(looked_up=0, hit=0, evicted=0, held=0, capacity=0)

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        for _ in range(self.pauses):
            yield
        if b"broken" in contents:
            raise ValueError("broken picture")
        self.encoded += picture.digests
        return np.zeros(4, np.float32)

    def begin(self, batch: Sequence[Waiting]) -> "Halves":
        self.begun += 1
        self.open.append(Halves(self, batch))
        return self.open[-1]

    def score(self, firsts: Sequence[int]) -> list[Logits]:
        if set(firsts) & set(self._faults):
            raise DeviceFault("illegal memory access")
        if set(firsts) & set(self._poison):
            raise RuntimeError("poisoned")
        held = sum(sum(attempt.computed) for attempt in self.open)
        if self.memory is not None and held > self.memory:
            raise OutOfMemory(f"{held} tokens")
        self.finished.append([*firsts])
        return [np.array([[np.nan if first == 99 else first / 2, 0.0]], np.float32) for first in firsts]


class Halves:
    """A forward of a Halver, in three pieces."""

    def __init__(self, scorer: Halver, batch: Sequence[Waiting]) -> None:
        self._scorer, self._batch = scorer, batch
        self.pictures = {entry.job.key(picture) for entry in batch for picture in entry.pictures}
        self.computed = [entry.job.tokens(c) for entry in batch for c in entry.candidates]

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        assert features.keys() >= self.pictures
        firsts = [int(entry.job.ids(c)[0]) for entry in self._batch for c in entry.candidates]
        self._scorer.batches.append(len(firsts))
        yield
        yield
        return self._scorer.score(firsts)

    def close(self) -> None:
        self._scorer.open.remove(self)


def job(
    name: str,
    *firsts: int,
    deadline: float | None = None,
    pictures: tuple[JobPicture, ...] = (),
    rank: int = 1,
    tokens: int = 10,
) -> Job:
    """A candidate for each of `firsts`, of so many `tokens`."""
    ids = [np.full(tokens, first, np.int32).tobytes() for first in firsts]
    candidates = tuple(JobCandidate(part, np.array([tokens - 1], np.int32).tobytes()) for part in ids)
    return Job(name, "prm", rank, time.monotonic(), deadline, b"", candidates, pictures)


def run(script: Script, scorer: Halver, tokens: int = 1000, feature_bytes: int = 2**16) -> Script:
    """Until the script says stop; whatever happened, nothing is held in the end."""
    Engine({"prm": scorer}, script, Budget(tokens, 100), feature_bytes).run()
    assert scorer.open == []
    return script


def arrive(*jobs: Job, withdrawn: frozenset[str] = frozenset()) -> Intake:
    return Intake(jobs, withdrawn)
