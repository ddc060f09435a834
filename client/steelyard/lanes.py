"""A connection for each call under way.

A pool that looks at every connection that it has, before and after each call, costs more than the call when they are
dozens. Here each is by itself, and the one that was used last is used next.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from steelyard.async_lane import AsyncLane
from steelyard.blocking_lane import BlockingLane
from steelyard.proxied_lanes import AsyncProxiedLane, BlockingProxiedLane
from steelyard.transport import Server, route_to

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


def blocking_lanes(server: Server) -> Callable[[], BlockingLane | BlockingProxiedLane]:
    """What opens one more for threads."""
    if server.is_proxied:
        return lambda: BlockingProxiedLane(server)
    route = route_to(server)
    return lambda: BlockingLane(route)


def async_lanes(server: Server) -> Callable[[], AsyncLane | AsyncProxiedLane]:
    """What opens one more for tasks."""
    if server.is_proxied:
        return lambda: AsyncProxiedLane(server)
    route = route_to(server)
    return lambda: AsyncLane(route)
