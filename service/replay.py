"""Answers kept for a repeated `id`, so that a retry is never scored twice."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from service.errors import IdReused
from service.flight import Flight
from steelyard.schema import ScoreStepsRequest

Key = tuple[str, str]  # caller, id


@dataclass(frozen=True, slots=True)
class _Entry:
    fingerprint: bytes
    flight: Flight
    kept_until: float
    size: int


class ReplayStore:
    """The flights of the last `ttl_s` seconds by caller and id, oldest out first over `budget_bytes`."""

    def __init__(self, *, ttl_s: float, budget_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key, request: ScoreStepsRequest) -> Flight | None:
        """The flight of the same request under the same id. Raises IdReused for another request."""
        self._evict()
        entry = self._entries.get(key)
        if entry is None or entry.flight.failed:
            return None
        if entry.fingerprint != _fingerprint(request):
            raise IdReused(f"the id {key[1]!r} was used for another body in the last {self._ttl_s:.0f} s")
        return entry.flight

    def keep(self, key: Key, request: ScoreStepsRequest, flight: Flight) -> None:
        old = self._entries.pop(key, None)
        self._bytes -= old.size if old else 0
        entry = _Entry(_fingerprint(request), flight, time.monotonic() + self._ttl_s, _size(request))
        self._entries[key] = entry
        self._bytes += entry.size
        self._evict()

    def _evict(self) -> None:
        now = time.monotonic()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if self._bytes <= self._budget_bytes and entry.kept_until > now:
                return
            del self._entries[key]
            self._bytes -= entry.size


def _fingerprint(request: ScoreStepsRequest) -> bytes:
    return hashlib.sha256(request.model_dump_json().encode()).digest()


def _size(request: ScoreStepsRequest) -> int:
    """About what its answer weighs in memory: some numbers a step, some fields a candidate."""
    steps = sum(len(c) if isinstance(c, list) else c.count("\n\n") + 1 for c in request.candidates)
    return 1000 + 400 * len(request.candidates) + 200 * steps
