"""The engine: take, pack, forward, deliver, one device, no timer.

While a forward runs the next batch grows in the queue; an idle engine starts on the first job it is handed.
"""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.batching import Budget, Waiting, halves, pack
from service.job import Delivery, Job, JobPicture, Outcome, PictureKey
from service.queue import Source

log = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]
# A job's id and the index of a candidate in it.
Place = tuple[str, int]


class Scorer(Protocol):
    """A loaded model as the engine drives it."""

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> object:
        """A picture's features, to be handed back to `score`; `contents` are the bytes of its files."""
        ...

    def score(self, batch: Sequence[Waiting], features: Mapping[PictureKey, object]) -> list[Logits]:
        """One forward: for each candidate, in the batch's order, its (read-outs, labels) logits."""
        ...


class DeviceFault(Exception):
    """The device can compute nothing more in this process: it ends, and another one takes its jobs."""


class PictureGone(Exception):
    """A job's picture is no longer to be had: its caller has gone."""


class Engine:
    """One device's loop over the jobs of a source."""

    def __init__(self, scorers: Mapping[str, Scorer], source: Source, budget: Budget) -> None:
        self._scorers = scorers
        self._source = source
        self._budget = budget
        self._waiting: tuple[Waiting, ...] = ()
        # Features of the last batch's pictures: a group that spans batches encodes its pictures once.
        self._features: dict[PictureKey, object] = {}

    def run(self) -> None:
        """Until the source says stop."""
        while self._take():
            packing = pack(self._waiting, self._budget, time.time())
            self._waiting = packing.waiting
            for entry in packing.expired:
                self._deliver_expired(entry)
            if packing.batch:
                self._serve(packing.batch)

    def _take(self) -> bool:
        intake = self._source.take(wait=not self._waiting)
        if intake is None:
            return False
        arrived = (Waiting.of(job, job.left) for job in intake.jobs)
        self._waiting = tuple(e for e in (*self._waiting, *arrived) if e.job.id not in intake.withdrawn)
        return True

    def _serve(self, batch: Sequence[Waiting]) -> None:
        self._source.begin([entry.job.id for entry in batch])
        started = time.time()
        tiles, broken = self._encode(batch)
        outcomes = _lost(batch, broken)
        sound = _without(batch, outcomes) if outcomes else batch
        outcomes |= self._outcomes(sound) if sound else {}
        forward_ms = (time.time() - started) * 1000
        computed = {entry.job.id: entry.tokens for entry in sound}
        for entry in batch:
            self._source.deliver(
                Delivery(
                    job=entry.job.id,
                    outcomes=tuple(outcomes[entry.job.id, candidate] for candidate in entry.candidates),
                    computed_tokens=computed.get(entry.job.id, 0),
                    tiles=tiles[entry.job.id],
                    queue_ms=max(0.0, (started - entry.job.submitted) * 1000),
                    forward_ms=forward_ms,
                )
            )

    def _encode(self, batch: Sequence[Waiting]) -> tuple[dict[str, int], dict[PictureKey, str]]:
        """Features of all the batch's pictures; returns the tiles encoded for each job, and why pictures failed."""
        known, self._features = self._features, {}
        broken: dict[PictureKey, str] = {}
        tiles: dict[str, int] = {}
        for entry in batch:
            fresh = [picture for picture in entry.pictures if self._place(entry.job, picture, known, broken)]
            tiles[entry.job.id] = sum(picture.tiles for picture in fresh)
        return tiles, broken

    def _place(
        self,
        job: Job,
        picture: JobPicture,
        known: Mapping[PictureKey, object],
        broken: dict[PictureKey, str],
    ) -> bool:
        """Put a picture's features among the batch's, or why there are none; true when they had to be computed."""
        key = job.key(picture)
        if key in self._features or key in broken:
            return False
        if key in known:
            self._features[key] = known[key]
            return False
        try:
            self._features[key] = self._scorers[job.model].encode(picture, self._contents(picture))
        except DeviceFault:
            raise
        except PictureGone:
            broken[key] = "the picture is no longer stored"
        except Exception:
            log.exception("a picture of job %s could not be encoded", job.id)
            broken[key] = "its picture could not be encoded"
        return key not in broken

    def _contents(self, picture: JobPicture) -> list[bytes]:
        """Raises PictureGone."""
        contents = []
        for digest in picture.digests:
            content = self._source.blob(digest)
            if content is None:
                raise PictureGone
            contents.append(content)
        return contents

    def _outcomes(self, batch: Sequence[Waiting]) -> dict[Place, Outcome]:
        """A forward that raises is tried again in halves until the guilty candidate is alone."""
        places = [(entry.job.id, candidate) for entry in batch for candidate in entry.candidates]
        try:
            logits = self._scorers[batch[0].job.model].score(batch, self._features)
        except DeviceFault:
            raise
        except Exception as error:
            if len(places) > 1:
                first, second = halves(batch)
                return self._outcomes(first) | self._outcomes(second)
            log.exception("the forward of job %s, candidate %d failed", *places[0])
            return {places[0]: _failed(places[0][1], f"its forward failed: {type(error).__name__}")}
        return {place: _outcome(place[1], values) for place, values in zip(places, logits, strict=True)}

    def _deliver_expired(self, entry: Waiting) -> None:
        detail = "the deadline passed before it was run"
        outcomes = tuple(Outcome(candidate, "expired", detail=detail) for candidate in entry.candidates)
        self._source.deliver(Delivery(entry.job.id, outcomes))


def _lost(batch: Sequence[Waiting], broken: Mapping[PictureKey, str]) -> dict[Place, Outcome]:
    """The candidates that a picture without features keeps from being scored."""
    return {
        (entry.job.id, candidate): _failed(candidate, broken[entry.job.key(picture)])
        for entry in (batch if broken else ())
        for candidate in entry.candidates
        for picture in entry.job.pictures_of(candidate)
        if entry.job.key(picture) in broken
    }


def _without(batch: Sequence[Waiting], lost: Collection[Place]) -> list[Waiting]:
    left = [
        Waiting.of(entry.job, (candidate for candidate in entry.candidates if (entry.job.id, candidate) not in lost))
        for entry in batch
    ]
    return [entry for entry in left if entry.candidates]


def _outcome(candidate: int, logits: Logits) -> Outcome:
    if not np.isfinite(logits).all():
        return _failed(candidate, "its forward gave a number that is not finite")
    return Outcome(candidate, "ok", np.ascontiguousarray(logits, np.float32).tobytes())


def _failed(candidate: int, detail: str) -> Outcome:
    return Outcome(candidate, "failed", detail=detail)
