"""A source and a scorer that a test drives the engine's loop with."""

import dataclasses
import time
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from models.prefix_cache import CacheCounts
from service.batching import Budget, Waiting
from service.engine import Engine, Features, Logits
from service.engine_counts import EngineCounts
from service.job import Delivery, Job, JobCandidate, JobPicture, Outcome, PictureKey
from service.queue import Intake

PICTURE = JobPicture(("sha256:aa",), False, (1, 1), 1, 0, 4)
OTHER = dataclasses.replace(PICTURE, digests=("sha256:bb",))


class Script:
    """A source that hands over what the test wrote down, then says stop."""

    def __init__(self, *intakes: Intake, blobs: Mapping[str, bytes] | None = None) -> None:
        self._intakes = list(intakes)
        self._blobs = {PICTURE.digests[0]: b"pixels"} if blobs is None else blobs
        self.delivered: list[Delivery] = []
        self.begun: list[tuple[str, ...]] = []

    def take(self, *, wait: bool) -> Intake | None:
        if self._intakes:
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

    def outcomes(self, job: str) -> dict[int, Outcome]:
        return {o.candidate: o for delivery in self.delivered if delivery.job == job for o in delivery.outcomes}


class Halver:
    """A scorer whose logit is half of the candidate's first id; the ids in `poison` raise, 99 gives NaN."""

    def __init__(self, *poison: int) -> None:
        self._poison = poison
        self.encoded: list[str] = []
        self.batches: list[int] = []

    counts = CacheCounts(looked_up=0, hit=0, evicted=0, held=0, capacity=0)

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Features:
        if b"broken" in contents:
            raise ValueError("broken picture")
        self.encoded += picture.digests
        return np.zeros(4, np.float32)

    def begin(self, batch: Sequence[Waiting]) -> "Halves":
        return Halves(self, batch)

    def score(self, firsts: Sequence[int]) -> list[Logits]:
        if set(firsts) & set(self._poison):
            raise RuntimeError("poisoned")
        return [np.array([[np.nan if first == 99 else first / 2, 0.0]], np.float32) for first in firsts]


class Halves:
    """A forward of a Halver, in three pieces."""

    def __init__(self, scorer: Halver, batch: Sequence[Waiting]) -> None:
        self._scorer, self._batch = scorer, batch
        self.pictures = {entry.job.key(picture) for entry in batch for picture in entry.pictures}
        self.computed = [entry.job.tokens(c) for entry in batch for c in entry.candidates]
        self.closed = False

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        assert features.keys() >= self.pictures
        firsts = [int(entry.job.ids(c)[0]) for entry in self._batch for c in entry.candidates]
        self._scorer.batches.append(len(firsts))
        yield
        yield
        return self._scorer.score(firsts)

    def close(self) -> None:
        self.closed = True


def job(name: str, *firsts: int, deadline: float | None = None, pictures: tuple[JobPicture, ...] = ()) -> Job:
    ids = [np.full(10, first, np.int32).tobytes() for first in firsts]
    candidates = tuple(JobCandidate(part, np.array([9], np.int32).tobytes()) for part in ids)
    return Job(name, "prm", 1, time.time(), deadline, b"", candidates, pictures)


def run(script: Script, scorer: Halver, tokens: int = 1000, feature_bytes: int = 1024) -> Script:
    Engine({"prm": scorer}, script, Budget(tokens, 100), feature_bytes).run()
    return script


def arrive(*jobs: Job, withdrawn: frozenset[str] = frozenset()) -> Intake:
    return Intake(jobs, withdrawn)
