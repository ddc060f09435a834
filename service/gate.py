"""Where accepted calls wait while the weights are changed."""

import asyncio

from service.errors import Unavailable


class Gate:
    """Open, held, or given up: then those who wait are turned away."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._opened.set()
        self._reason: str | None = None

    @property
    def held(self) -> bool:
        return not self._opened.is_set()

    def hold(self) -> None:
        self._opened.clear()

    def release(self) -> None:
        self._opened.set()

    def give_up(self, reason: str) -> None:
        """What those who wait would wait for will not come."""
        if self.held:
            self._reason = reason
            self._opened.set()

    async def passed(self) -> None:
        """Raises Unavailable when it was given up."""
        await self._opened.wait()
        if self._reason is not None:
            raise Unavailable(self._reason)
