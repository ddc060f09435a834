"""Which kind of connections lead to a server."""

from collections.abc import Callable

from steelyard.async_lane import AsyncLane
from steelyard.blocking_lane import BlockingLane
from steelyard.proxied_lanes import AsyncProxiedLane, BlockingProxiedLane
from steelyard.transport import Server, route_to


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
