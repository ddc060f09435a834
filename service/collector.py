"""Python's cycle collector, kept from walking thousands of waiting groups in the middle of work.

A full collection stops the process for as long as it takes to look at everything that lives: a second, seen with 3,300
groups waiting, in which an `online` call waits too. It is left for when nothing waits. What dies young is collected as
ever, and most things die without the collector at all.
"""

import asyncio
import gc
from collections.abc import Callable

# Net allocations between two young collections, young ones between two middle ones, and so on.
_YOUNG, _MIDDLE, _FULL = 5_000, 10, 1_000
_EVERY_S = 2.0


def hold_back() -> None:
    """Once all is loaded: what is there now is never walked again, and a full collection comes a hundredth as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _FULL)


def catch_up() -> None:
    """A full collection, if there is anything for one to do."""
    if gc.get_count()[2]:
        gc.collect()


async def catch_up_when(is_idle: Callable[[], bool]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(_EVERY_S)
        if is_idle():
            catch_up()
