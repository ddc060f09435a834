"""What a worker has in hand: the forward that runs, and the next one. More would be kept from others in vain."""

import asyncio
from collections.abc import Iterable

_FEWEST_JOBS, _MOST_JOBS = 8, 1024


class Hand:
    """Jobs by name with what they cost in tokens; those begun are in a forward."""

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._waiting: dict[str, int] = {}
        self._begun: set[str] = set()
        self._last_batch = 0
        # Set when there may be more room than before.
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._begun)

    @property
    def jobs(self) -> list[str]:
        return [*self._begun, *self._waiting]

    @property
    def room(self) -> tuple[int, int]:
        """Tokens and jobs that may be taken now; none when either is 0.

        An engine that runs few jobs at once has few of them wait behind.
        """
        tokens = self._batch_tokens - sum(self._waiting.values())
        jobs = min(_MOST_JOBS, max(_FEWEST_JOBS, 2 * self._last_batch)) - len(self._waiting)
        return (max(0, tokens), max(0, jobs))

    def put(self, job: str, cost: int) -> None:
        self._waiting[job] = cost

    def begin(self, jobs: Iterable[str]) -> None:
        fresh = [job for job in jobs if self._waiting.pop(job, None) is not None]
        self._begun.update(fresh)
        self._last_batch = len(fresh) or self._last_batch
        self.changed.set()

    def drop(self, job: str) -> None:
        self._waiting.pop(job, None)
        self._begun.discard(job)
        self.changed.set()

    async def emptied(self) -> None:
        while len(self):
            self.changed.clear()
            await self.changed.wait()
