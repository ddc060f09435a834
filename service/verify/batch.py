"""A batch of items on its way: which are still to be evaluated, and what came of the others."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from service.verify.frames import Answer, Item, Result, unverified
from service.verify.progress import Hand

# What a worker is handed at once, so that its memory and the pipe stay small.
_TURN_ITEMS = 256
_TURN_CHARACTERS = 2**22
# Deaths in one item's hands, or of one batch between items, before it is given up.
_DEATHS = 2
_UNEXPLAINED = 3


class Batch:
    """Items of one call, all by one specification; `results` stand in the caller's order once `finished` is done."""

    def __init__(
        self, specification: bytes, items: Sequence[Item], limit_s: float, deadline: float, *, needs_preload: bool
    ) -> None:
        self.specification = specification
        self.limit_s = limit_s
        self.needs_preload = needs_preload
        self.results: list[Result | None] = [None] * len(items)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # When a worker first took some of it, on the monotonic clock.
        self.started: float | None = None
        self._deadline = deadline
        self._left = len(items)
        self._pending: deque[Item] = deque(items)
        self._suspects: deque[Item] = deque()
        self._deaths: Counter[int] = Counter()
        self._unexplained = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a worker could take some of it, and somebody wants it."""
        return bool(self._pending or self._suspects) and not self.finished.done()

    def turn_away(self, results: Sequence[Result]) -> None:
        """Items that need no worker to get their result."""
        away = {result.place for result in results}
        self._pending = deque(item for item in self._pending if item.place not in away)
        self.record(results)

    def take(self, now: float) -> list[Item]:
        """What a worker is to evaluate next; nothing when the deadline has passed."""
        if now > self._deadline:
            self._give_up("expired", "the deadline passed before it was evaluated", retryable=True)
            return []
        self.started = now if self.started is None else self.started
        if self._suspects:
            # Alone: the next death is its own.
            return [self._suspects.popleft()]
        taken: list[Item] = []
        characters = 0
        while self._pending and len(taken) < _TURN_ITEMS:
            characters += self._pending[0].characters
            if taken and characters > _TURN_CHARACTERS:
                break
            taken.append(self._pending.popleft())
        return taken

    def settle(self, taken: Sequence[Item], answer: Answer) -> None:
        """What a worker said of a turn; what it did not come to is put back."""
        done = {result.place for result in answer.results}
        self.record(answer.results)
        if answer.exhausted is not None:
            item = next(item for item in taken if item.place == answer.exhausted)
            self._blame(item, "it needed more memory than an item may take")
            done.add(item.place)
        self.hand_back(item for item in taken if item.place not in done)

    def bury(self, taken: Sequence[Item], hand: Hand | None) -> str:
        """A worker died in a turn with this in hand: why, in a word. The others are evaluated by the next one."""
        if hand is None:
            self._unexplained += 1
            self.hand_back(taken)
            if self._unexplained >= _UNEXPLAINED:
                self.fail("its workers died", retryable=True)
            return "died"
        guilty = taken[hand.item]
        cause = "timed_out" if hand.elapsed_s >= self.limit_s else "died"
        if cause == "timed_out":
            limit_ms = round(self.limit_s * 1000)
            self.record([unverified(guilty, "timed_out", f"it took longer than {limit_ms} ms")])
        else:
            self._blame(guilty, "its worker died of it")
        self.hand_back(item for item in taken if item is not guilty)
        return cause

    def fail(self, detail: str, *, retryable: bool) -> None:
        """Nothing more can be evaluated."""
        self._give_up("failed", detail, retryable=retryable)

    def hand_back(self, items: Iterable[Item]) -> None:
        """Taken, and not evaluated."""
        self._pending.extendleft(reversed([*items]))

    def record(self, results: Iterable[Result]) -> None:
        for result in results:
            self.results[result.place] = result
            self._left -= 1
        if not self._left and not self.finished.done():
            self.finished.set_result(None)

    def _blame(self, item: Item, detail: str) -> None:
        """Twice, as somebody else may have killed the worker or taken the memory."""
        self._deaths[item.place] += 1
        if self._deaths[item.place] < _DEATHS:
            self._suspects.append(item)
        else:
            self.record([unverified(item, "failed", detail)])

    def _give_up(self, status: str, detail: str, *, retryable: bool) -> None:
        given_up = [*self._suspects, *self._pending]
        self._suspects.clear()
        self._pending.clear()
        self.record(unverified(item, status, detail, retryable=retryable) for item in given_up)
