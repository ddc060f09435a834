"""A client that wants its answer: asks any gateway with the same id until it has one or its deadline has passed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.ledger import Ledger
from loadtest.rows import Misshapen, rows_of
from loadtest.workload import Group
from steelyard import AsyncClient
from steelyard.errors import ServiceError, SteelyardError

# The statuses of a refusal: the group never was in the server's hands. A 504 is none.
_REFUSALS = frozenset({400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503})
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.05, 1.0


@dataclass(slots=True)
class Pursuit:
    """All clients of a run; `attempts` counts how their attempts ended."""

    clients: Mapping[str, AsyncClient]
    groups: Sequence[Group]
    ledger: Ledger
    deadline_s: float
    draws: random.Random
    attempts: Counter[str] = field(default_factory=Counter)

    async def first(self, name: str, group: int) -> None:
        """Ask any gateway until the group is answered."""
        self.ledger.open(name, group)
        await self._ask(name, group, list(self.clients))

    async def again(self, name: str) -> None:
        """Ask once more for what has been answered: from a gateway that did not answer, if there is one."""
        entry = self.ledger.entries[name]
        others = [url for url in self.clients if url != entry.server]
        if not await self._ask(name, entry.group, others or list(self.clients)):
            self.ledger.forget(name)

    async def _ask(self, name: str, group: int, urls: Sequence[str]) -> bool:
        """Whether it was settled before the deadline."""
        give_up = time.monotonic() + self.deadline_s
        while (left_s := give_up - time.monotonic()) > 0:
            pause_s = await self._attempt(name, group, self.draws.choice(urls), left_s)
            if pause_s is None:
                return True
            await asyncio.sleep(min(pause_s, max(0.0, give_up - time.monotonic())))
        return False

    async def _attempt(self, name: str, group: int, url: str, left_s: float) -> float | None:
        """Seconds until the next attempt, or None when it is settled."""
        asked = self.groups[group]
        pause_s = self.draws.uniform(_LEAST_PAUSE_S, _MOST_PAUSE_S)
        try:
            answer = await self.clients[url].score_steps(
                asked.question,
                asked.pictures,
                asked.candidates,
                id=name,
                # The same in every attempt: the id stands for one body.
                deadline_ms=int(self.deadline_s * 1000),
                timeout_s=left_s,
            )
            rows = rows_of(answer, len(asked.candidates))
        except Misshapen:
            self.attempts["misshapen"] += 1
            self.ledger.doubled(name)
            return None
        except SteelyardError as error:
            self._count(name, error)
            return pause_s + (error.retry_after_s or 0.0)
        self.attempts["answered" if None not in rows else "answered in part"] += 1
        # A second answer is judged by itself: what it lacks is asked for again, whatever the first one had.
        self.ledger.answer(name, url, rows)
        return pause_s if None in rows else None

    def _count(self, name: str, error: SteelyardError) -> None:
        status = error.status if isinstance(error, ServiceError) else None
        self.attempts[type(error).__name__ if status is None else f"{status} {type(error).__name__}"] += 1
        if status not in _REFUSALS:
            self.ledger.accept(name)
