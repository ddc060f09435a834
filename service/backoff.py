"""How long to wait before Redis is asked again: longer each time."""

import asyncio

_FIRST_S, _LONGEST_S = 0.05, 2.0


class Backoff:
    """Doubles from 50 ms to 2 s."""

    def __init__(self) -> None:
        self.next_s = _FIRST_S

    async def wait(self) -> None:
        await asyncio.sleep(self.next_s)
        self.next_s = min(2 * self.next_s, _LONGEST_S)
