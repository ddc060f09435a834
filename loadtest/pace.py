"""Keeps groups and faults in step: faults fall evenly among the groups, however fast either would be alone."""

import asyncio


class Pace:
    """Between two faults so many groups are answered; none runs far ahead of the faults that are still to come."""

    def __init__(self, groups: int, faults: int) -> None:
        self._between = groups / (faults + 1)
        self._faults = faults
        self._changed = asyncio.Condition()
        self.settled = 0
        self.injected = 0

    async def may_send(self, number: int) -> None:
        """Returns when the group of this number, from 0 on, may go: at most one and a half strides ahead."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.injected >= self._faults or number < (self.injected + 1.5) * self._between
            )

    async def may_inject(self) -> None:
        """Returns when the next fault is due, while groups are under way."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.settled >= (self.injected + 0.5) * self._between)

    async def settle(self) -> None:
        """A group was answered, or its deadline passed."""
        async with self._changed:
            self.settled += 1
            self._changed.notify_all()

    async def inject(self) -> None:
        """A fault has done its harm."""
        async with self._changed:
            self.injected += 1
            self._changed.notify_all()
