"""One of the pool's places for a worker: whoever sits there is replaced when it dies."""

from service.backoff import Backoff
from service.verify.child import Child
from service.verify.workers import CannotStart, Workers

_STARTS = 3


class Seat:
    """Empty until somebody wants its worker."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._child: Child | None = None
        # The last worker's pid, until the nursery may forget it.
        self._dead = 0

    async def child(self, *, preloaded: bool) -> Child:
        """The worker that sits here; with `preloaded` one that has what is slow to import. Raises CannotStart."""
        if self._child is not None and preloaded and not self._child.preloaded:
            self.clear()
        if self._child is None:
            self._child = await self._another(preloaded=preloaded)
        return self._child

    def clear(self) -> None:
        """Kill the worker; the next one is fresh."""
        if self._child is not None:
            self._child.kill()
            self._dead, self._child = self._child.pid, None

    async def _another(self, *, preloaded: bool) -> Child:
        backoff = Backoff()
        attempt = 1
        while True:
            try:
                if preloaded:
                    await self._workers.preload()
                dead, self._dead = self._dead, 0
                return await self._workers.another(dead)
            except CannotStart:
                if attempt == _STARTS:
                    raise
                attempt += 1
                await backoff.wait()
