"""How far a worker is: a page of memory that it writes for nothing and the gateway reads when it likes."""

import mmap
import os
import time
from dataclasses import dataclass

_BYTES = mmap.PAGESIZE
_ITEM, _STARTED, _ABANDONED = range(3)
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hand:
    """The item in hand: which of the turn's, and when it was begun, on the clock that all processes share."""

    item: int
    started_ns: int

    @property
    def elapsed_s(self) -> float:
        return (time.monotonic_ns() - self.started_ns) / NS


class Progress:
    """One worker's page, shared by file descriptor. Each word is written at once, so that a reader sees it whole."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, _BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> "Progress":
        descriptor = os.memfd_create("verify progress")
        os.ftruncate(descriptor, _BYTES)
        return cls(descriptor)

    def begin(self, item: int) -> None:
        """The worker's: an item of the turn, from 0, is taken in hand; its time runs."""
        words = self._words
        words[_STARTED] = 0
        words[_ITEM] = item
        words[_STARTED] = time.monotonic_ns()

    def clear(self) -> None:
        """Nothing is in hand, and nothing is abandoned."""
        self._words[_STARTED] = 0
        self._words[_ABANDONED] = 0

    def abandon(self) -> None:
        """The gateway's: nobody waits for the turn any more."""
        self._words[_ABANDONED] = 1

    @property
    def is_abandoned(self) -> bool:
        return bool(self._words[_ABANDONED])

    @property
    def hand(self) -> Hand | None:
        """What is in hand; None between items."""
        item, started_ns = self._words[_ITEM], self._words[_STARTED]
        settled = started_ns and (item, started_ns) == (self._words[_ITEM], self._words[_STARTED])
        return Hand(item, started_ns) if settled else None

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self.descriptor)
