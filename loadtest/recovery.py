"""How long after an overload a server is as it was."""

import asyncio
import math
import time
from dataclasses import dataclass
from http import HTTPStatus

from loadtest.bodies import Bodies
from loadtest.connections import Reply
from loadtest.open_loop import pool_of
from steelyard.schema import Priority

_EVERY_S = 0.2
_FIRST = 9 * 10**8


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds until a probe was answered at the usual pace: an online one, and one of each kind; infinite if never."""

    online_s: float
    all_s: float


async def await_normal(url: str, bodies: Bodies, usual_s: float, patience_s: float) -> Recovery:
    """Ask with an online and a train group every 0.2 s until one of each was scored within `usual_s`."""
    began = time.monotonic()
    since: dict[Priority, float] = {"online": math.inf, "train": math.inf}
    pool = pool_of(url, 1000)

    def probe(priority: Priority, number: int) -> None:
        sent = time.monotonic()

        def done(reply: Reply) -> None:
            if reply.status == HTTPStatus.OK and time.monotonic() - sent <= usual_s:
                since[priority] = min(since[priority], sent - began)

        pool.send(bodies.request(priority, number), done)

    number = _FIRST
    try:
        while math.inf in since.values() and time.monotonic() - began < patience_s:
            for priority in [name for name, after_s in since.items() if after_s == math.inf]:
                number += 1
                probe(priority, number)
            await asyncio.sleep(_EVERY_S)
    finally:
        await pool.close()
    return Recovery(since["online"], max(since.values()))
