"""Permits of one kind, groups or tokens or tiles: who holds how many, and how long until there are more."""

from collections import Counter

from service.drain import DrainRate

_ROUNDING = 1e-6


class Permits:
    """Pure policy; the clock is an argument, in seconds that never run backwards.

    Whoever needs none is never in want of them, and where none are held any number is to be had, so that what is
    larger than the capacity is not refused for ever.
    """

    def __init__(self, capacity: int, expected_per_s: float) -> None:
        self._capacity = capacity
        self._rate = DrainRate(expected_per_s)
        self._since = 0.0
        self.held = 0
        self.by_priority: Counter[str] = Counter()
        self._by_caller: Counter[str] = Counter()

    @property
    def per_s(self) -> float:
        """How many were given back by finished work, a second of work."""
        return self._rate.per_s

    def lacking(self, amount: int, share: float) -> int:
        """How many have to be given back before all that are held are within this share of the capacity."""
        return _lacking(self.held, amount, share * self._capacity)

    def lacking_to(self, caller: str, amount: int, share: float) -> int:
        """How many of the caller's own have to be given back before it holds no more than this share."""
        return _lacking(self._by_caller[caller], amount, share * self._capacity) if share < 1 else 0

    def seconds_for(self, amount: int, now: float) -> float:
        """Until so many have been given back."""
        self._pass_time(now)
        return self._rate.seconds_for(amount)

    def take(self, amount: int, priority: str, caller: str, now: float) -> None:
        self._pass_time(now)
        self._change(amount, priority, caller)

    def give_back(self, amount: int, priority: str, caller: str, now: float, *, finished: bool) -> None:
        """`finished` says whether they come back because the work is done."""
        self._pass_time(now)
        if finished:
            self._rate.finish(amount)
        self._change(-amount, priority, caller)

    def _pass_time(self, now: float) -> None:
        if self.held:
            self._rate.pass_time(max(0.0, now - self._since))
        self._since = now

    def _change(self, amount: int, priority: str, caller: str) -> None:
        self.held += amount
        self.by_priority[priority] += amount
        self._by_caller[caller] += amount
        if not self._by_caller[caller]:
            del self._by_caller[caller]


def _lacking(held: int, amount: int, limit: float) -> int:
    # A share of a whole is seldom a whole float: 0.1 of 10 may come out as less than 1.
    over = held + amount - int(limit + _ROUNDING)
    # What never fits waits until nothing else is held.
    return min(over, held) if amount and over > 0 else 0
