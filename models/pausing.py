"""Work that pauses between its pieces, so that other work may run there."""

from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")


def run_through(work: Generator[None, None, Result], pause: Callable[[], None] = lambda: None) -> Result:
    """To its end; `pause` is called where it pauses."""
    while True:
        try:
            next(work)
        except StopIteration as ended:
            result: Result = ended.value
            return result
        pause()
