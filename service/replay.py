"""Answers kept for a repeated `id`, so that a retry is never scored twice."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from service.errors import IdReused
from service.flight import Flight
from steelyard.schema import StepScores

Key = tuple[str, str]  # caller, id


@dataclass(frozen=True, slots=True)
class _Entry:
    """`fingerprint` tells one body from another."""

    fingerprint: bytes
    flight: Flight


@dataclass(frozen=True, slots=True)
class _Landed:
    entry: _Entry
    kept_until: float
    size: int


class ReplayStore:
    """The groups under way by caller and id, then their answers for `ttl_s`, oldest out first over `budget_bytes`.

    A group that was refused or abandoned leaves nothing behind.
    """

    def __init__(self, *, ttl_s: float, budget_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._budget_bytes = budget_bytes
        self._flying: dict[Key, _Entry] = {}
        self._landed: OrderedDict[Key, _Landed] = OrderedDict()
        self._bytes = 0

    def __contains__(self, key: Key) -> bool:
        """Whether anything is known of the id; only then is a body's fingerprint, long work for a large one, needed."""
        return key in self._flying or key in self._landed

    def find(self, key: Key, fingerprint: bytes) -> Flight | None:
        """The flight of the same body under the same id. Raises IdReused for another body."""
        self._evict()
        landed = self._landed.get(key)
        entry = self._flying.get(key) or (landed.entry if landed else None)
        if entry is None or entry.flight.failed:
            return None
        if entry.fingerprint != fingerprint:
            raise IdReused(f"the id {key[1]!r} was used for another body in the last {self._ttl_s:.0f} s")
        return entry.flight

    def start(self, key: Key, fingerprint: bytes, flight: Flight) -> None:
        """A group takes off under an id; what was kept for the id before is replaced."""
        self._forget(key)
        self._flying[key] = _Entry(fingerprint, flight)

    def end(self, key: Key, flight: Flight) -> None:
        """It has landed, and is kept from now on, or it failed."""
        entry = self._flying.get(key)
        if entry is None or entry.flight is not flight:
            return
        del self._flying[key]
        if flight.landed:
            self._landed[key] = _Landed(entry, time.monotonic() + self._ttl_s, _size(flight))
            self._bytes += self._landed[key].size
            self._evict()

    def _evict(self) -> None:
        now = time.monotonic()
        while self._landed:
            key, oldest = next(iter(self._landed.items()))
            if self._bytes <= self._budget_bytes and oldest.kept_until > now:
                return
            self._forget(key)

    def _forget(self, key: Key) -> None:
        landed = self._landed.pop(key, None)
        self._bytes -= landed.size if landed else 0


def _size(flight: Flight) -> int:
    """About what its answer weighs in memory: some numbers a step, some fields a candidate."""
    steps = sum(len(result.step_scores or ()) for result in flight.results if isinstance(result, StepScores))
    return 1000 + 400 * len(flight.results) + 200 * steps
