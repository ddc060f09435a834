"""A connection for each call under way.

A pool that looks at every connection that it has, before and after each call, costs more than the call when they are
dozens. Here each is by itself, and the one that was used last is used next.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Lane = TypeVar("Lane")


class Lanes(Generic[Lane]):
    """As many as there ever were calls at once; safe to use from several threads."""

    def __init__(self, opens: Callable[[], Lane]) -> None:
        self._opens = opens
        # Popping and appending are atomic.
        self._idle: list[Lane] = []
        self._all: list[Lane] = []
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[Lane]:
        """One for a single call. Raises RuntimeError once they are closed."""
        lane = self._take()
        try:
            yield lane
        finally:
            self._idle.append(lane)

    def closing(self) -> list[Lane]:
        """All of them, to be closed now; none is lent again."""
        self._closed = True
        return list(self._all)

    def _take(self) -> Lane:
        if self._closed:
            raise RuntimeError("the client is closed")
        try:
            return self._idle.pop()
        except IndexError:
            lane = self._opens()
            self._all.append(lane)
            return lane
