"""The engine: take, pack, forward, deliver, one device, no timer.

While a forward runs the next batch grows in the queue; an idle engine starts on the first job it is handed.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.pausing import run_through
from models.prefix_cache import CacheCounts
from service.batching import ALONE_AFTER_DEATHS, Budget, Waiting, halves, pack
from service.engine_counts import EngineCounts
from service.feature_cache import FeatureCache
from service.job import Delivery, Job, JobPicture, Outcome, PictureKey
from service.memory_limits import Limits
from service.queue import Source

log = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]
# A job's id and the index of a candidate in it.
Place = tuple[str, int]
# What is done where the batch in hand pauses.
Pause = Callable[[], None]


class Features(Protocol):
    """What a tower made of a picture."""

    @property
    def nbytes(self) -> int: ...


class Attempt(Protocol):
    """One forward over a batch, planned and not yet run. Run it to its end, or close it."""

    @property
    def pictures(self) -> Collection[PictureKey]:
        """Those whose features it needs."""
        ...

    @property
    def computed(self) -> Sequence[int]:
        """For each candidate, in the batch's order, how many rows of the decoder it is the first to need."""
        ...

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        """Pauses now and then; returns for each candidate, in the batch's order, its (read-outs, labels) logits."""
        ...

    def close(self) -> None: ...


class Scorer(Protocol):
    """A loaded model as the engine drives it."""

    @property
    def counts(self) -> CacheCounts:
        """What its prefix cache has done so far."""
        ...

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        """Pauses now and then; returns a picture's features. `contents` are the bytes of its files."""
        ...

    def begin(self, batch: Sequence[Waiting]) -> Attempt: ...


class DeviceFault(Exception):
    """The device can compute nothing more in this process: it ends, and another one takes its jobs."""


class OutOfMemory(Exception):
    """A forward wanted more memory than there is; a smaller one may be run."""


class PictureGone(Exception):
    """A job's picture is no longer to be had: its caller has gone."""


@dataclass(slots=True)
class _Result:
    """What has come of a batch so far: outcomes and computed rows by place, tiles encoded by job."""

    outcomes: dict[Place, Outcome] = field(default_factory=dict)
    computed: Counter[str] = field(default_factory=Counter)
    tiles: Counter[str] = field(default_factory=Counter)
    features: dict[PictureKey, Features] = field(default_factory=dict)
    broken: dict[PictureKey, str] = field(default_factory=dict)


class Engine:
    """One device's loop over the jobs of a source."""

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        source: Source,
        budget: Budget,
        feature_bytes: int = 0,
        fallbacks: Sequence[str] = (),
    ) -> None:
        self._scorers = scorers
        self._fallbacks = tuple(fallbacks)
        self._source = source
        self._limits = Limits(budget)
        self._waiting: tuple[Waiting, ...] = ()
        self._features: FeatureCache[PictureKey, Features] = FeatureCache(feature_bytes)
        # The batches in hand: one, and inside it at most one that could not wait for its end.
        self._in_hand: list[Sequence[Waiting]] = []
        # Whether somebody may be waiting who should pass the forward in hand, and whether there is no memory for it.
        self._news = self._crowded = False
        # The picture that the batch in hand is having encoded.
        self._encoding: PictureKey | None = None
        self._stopped = False

    def run(self) -> None:
        """Until the source says stop."""
        while self._take(wait=not self._waiting):
            self._serve_next(self._waiting)

    def _take(self, *, wait: bool) -> bool:
        intake = None if self._stopped else self._source.take(wait=wait)
        if intake is None:
            self._stopped = True
            return False
        if not intake.jobs and not intake.withdrawn:
            return True
        self._news = True
        arrived = (Waiting.of(job, job.left) for job in intake.jobs)
        self._waiting = tuple(e for e in (*self._waiting, *arrived) if e.job.id not in intake.withdrawn)
        return True

    def _serve_next(self, line: Sequence[Waiting]) -> None:
        """One batch of those in line, who are among the waiting."""
        chosen = set(map(id, line))
        others = [entry for entry in self._waiting if id(entry) not in chosen]
        packing = pack(line, self._limits.budget, time.monotonic())
        self._waiting = (*packing.waiting, *others)
        for entry in packing.expired:
            self._deliver_expired(entry)
        if packing.batch:
            self._serve(packing.batch)

    def _serve(self, batch: Sequence[Waiting]) -> None:
        if not self._in_hand:
            self._news, self._crowded = True, False
        self._in_hand.append(batch)
        self._source.begin([entry.job.id for held in self._in_hand for entry in held])
        started, result = time.monotonic(), _Result()
        self._score(batch, result)
        self._in_hand.pop()
        for entry in batch:
            done = [c for c in entry.candidates if (entry.job.id, c) in result.outcomes]
            self._source.deliver(
                Delivery(
                    job=entry.job.id,
                    outcomes=tuple(result.outcomes[entry.job.id, candidate] for candidate in done),
                    # A job that is in the batch in parts has them counted with the first.
                    computed_tokens=result.computed.pop(entry.job.id, 0),
                    tiles=result.tiles.pop(entry.job.id, 0),
                    queue_ms=max(0.0, (started - entry.job.submitted) * 1000),
                    forward_ms=(time.monotonic() - started) * 1000,
                )
            )
        self._source.count(self._counts())

    def _score(self, batch: Sequence[Waiting], result: _Result) -> None:
        """All the batch's candidates get an outcome, or are put back because there was too little memory.

        A forward that raises is tried again in halves until the guilty candidate is alone; so is one that gives a
        number that is not finite, which may have spread to others.
        """
        result.outcomes |= _lost(batch, result.broken)
        batch = _without(batch, result.outcomes)
        if not batch:
            return
        places = [(entry.job.id, candidate) for entry in batch for candidate in entry.candidates]
        try:
            logits = self._forward(batch, places, result)
        except DeviceFault:
            raise
        except OutOfMemory as error:
            self._make_room(batch, places, result, error)
            return
        except Exception as error:
            if len(places) == 1:
                log.exception("the forward of job %s, candidate %d failed", *places[0])
                result.outcomes[places[0]] = _failed(places[0][1], f"its forward failed: {type(error).__name__}")
                return
            again: Sequence[Sequence[Waiting]] = halves(batch)
        else:
            if logits is None:
                again = [batch]
            elif len(places) > 1 and not all(np.isfinite(values).all() for values in logits):
                again = halves(batch)
            else:
                self._limits.succeeded()
                found = zip(places, logits, strict=True)
                result.outcomes |= {place: _outcome(place[1], values) for place, values in found}
                return
        # Not before the exception is gone: its traceback keeps all that the forward held.
        for part in again:
            self._score(part, result)

    def _forward(self, batch: Sequence[Waiting], places: Sequence[Place], result: _Result) -> list[Logits] | None:
        """None when a picture turned out to be broken, which its candidates have to be told first."""
        attempt = self._scorers[batch[0].job.model].begin(batch)
        try:
            pause = partial(self._let_pass, batch, sum(attempt.computed))
            if not self._see(batch, attempt.pictures, result, pause):
                return None
            logits = run_through(attempt.run(result.features), pause)
        finally:
            attempt.close()
        for (job, _), rows in zip(places, attempt.computed, strict=True):
            result.computed[job] += rows
        return logits

    def _let_pass(self, batch: Sequence[Waiting], rows: int) -> None:
        """Between two pieces of a forward of so many rows, serve what should not wait for its end."""
        if len(self._in_hand) > 1 or not self._take(wait=False) or not self._news or self._crowded:
            return
        urgent = self._urgent(batch, rows)
        if urgent:
            self._serve_next(urgent)
        else:
            self._news = False

    def _urgent(self, batch: Sequence[Waiting], rows: int) -> list[Waiting]:
        """Those waiting who may pass a batch: nothing passes what interrupts it, so none of them is a long prompt."""
        most, jobs = self._limits.budget.tokens, {entry.job.id for entry in batch}
        if any(map(_must_be_alone, batch)):
            return []
        # A forward larger than the budget is one long prompt, which nobody of its own rank should sit behind either.
        rank = min(entry.job.rank for entry in batch) + (rows > most)
        return [
            entry
            for entry in self._waiting
            if entry.job.rank < rank
            and entry.job.tokens(entry.candidates[0]) <= most
            and entry.job.id not in jobs
            # Who wants the picture in hand passes when it is there, rather than have it encoded twice.
            and self._encoding not in entry.keys
            and not _must_be_alone(entry)
        ]

    def _make_room(
        self, batch: Sequence[Waiting], places: Sequence[Place], result: _Result, error: OutOfMemory
    ) -> None:
        """Try again with a smaller budget; a candidate that is alone already is given up."""
        self._features.clear()
        if len(self._in_hand) > 1:
            # The forward that it interrupted holds memory too, and neither of them is too large for that.
            log.warning("out of memory inside another forward: it is tried again after that one: %s", error)
            self._crowded = True
            self._waiting = (*batch, *self._waiting)
            return
        if len(places) == 1:
            detail = "there is not enough memory for its forward"
            log.error("job %s, candidate %d: %s: %s", *places[0], detail, error)
            result.outcomes[places[0]] = _failed(places[0][1], detail)
            return
        self._limits.halve(sum(entry.tokens for entry in batch))
        log.warning("out of memory: a forward now holds %d tokens at most: %s", self._limits.budget.tokens, error)
        self._waiting = (*batch, *self._waiting)

    def _see(self, batch: Sequence[Waiting], wanted: Collection[PictureKey], result: _Result, pause: Pause) -> bool:
        """Features of all the wanted pictures; false when one of them cannot be had."""
        shown = [(entry.job, picture) for entry in batch for picture in entry.pictures]
        for job, picture in shown:
            key = job.key(picture)
            if key not in wanted or key in result.features or key in result.broken:
                continue
            features = self._features.get(key)
            if features is None:
                features = self._encode(job, picture, result, pause)
            if features is not None:
                result.features[key] = features
                self._features.put(key, features)
        return not any(key in result.broken for key in wanted)

    def _encode(self, job: Job, picture: JobPicture, result: _Result, pause: Pause) -> Features | None:
        """None for a picture that cannot be had, and why among the broken ones."""
        outer, self._encoding = self._encoding, job.key(picture)
        try:
            features = run_through(self._scorers[job.model].encode(picture, self._contents(picture)), pause)
        except (DeviceFault, OutOfMemory):
            raise
        except PictureGone:
            result.broken[job.key(picture)] = "the picture is no longer stored"
        except Exception:
            log.exception("a picture of job %s could not be encoded", job.id)
            result.broken[job.key(picture)] = "its picture could not be encoded"
        else:
            result.tiles[job.id] += picture.tiles
            return features
        finally:
            self._encoding = outer
            # Who waited for it alone may pass now.
            self._news = True
        return None

    def _counts(self) -> EngineCounts:
        prefixes = {model: scorer.counts for model, scorer in self._scorers.items()}
        return EngineCounts(prefixes, self._features.counts, self._limits.budget.tokens, self._fallbacks)

    def _contents(self, picture: JobPicture) -> list[bytes]:
        """Raises PictureGone."""
        contents = []
        for digest in picture.digests:
            content = self._source.blob(digest)
            if content is None:
                raise PictureGone
            contents.append(content)
        return contents

    def _deliver_expired(self, entry: Waiting) -> None:
        detail = "the deadline passed before it was run"
        outcomes = tuple(Outcome(candidate, "expired", detail=detail) for candidate in entry.candidates)
        self._source.deliver(Delivery(entry.job.id, outcomes))


def _must_be_alone(entry: Waiting) -> bool:
    return entry.job.deaths >= ALONE_AFTER_DEATHS


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
