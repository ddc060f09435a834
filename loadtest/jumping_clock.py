"""`python -m loadtest.jumping_clock [SEED] -m MODULE …`: runs the module with a wall clock that jumps to and fro.

Every second or so `time.time` and `time.time_ns` are hours off, another way each time. `time.monotonic` is left alone,
as a kernel leaves it when somebody sets the clock.
"""

import random
import runpy
import sys
import time
from collections.abc import Callable

_MOST_S = 12 * 3600.0
_EVERY_S = 1.0
_NS = 1_000_000_000


class JumpingClock:
    """The wall clock plus an offset, drawn anew each second of the monotonic clock."""

    def __init__(
        self,
        seed: int,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        self._wall, self._steady = wall, steady

    def time(self) -> float:
        return self._wall() + self.offset_s()

    def time_ns(self) -> int:
        return int(self.time() * _NS)

    def offset_s(self) -> float:
        """Between half a day back and half a day on."""
        return random.Random(f"{self._seed} {int(self._steady() / _EVERY_S)}").uniform(-_MOST_S, _MOST_S)


def main(arguments: list[str]) -> None:
    split = arguments.index("-m")
    seed = int(arguments[0]) if split else 0
    module, *rest = arguments[split + 1 :]
    clock = JumpingClock(seed)
    time.time = clock.time
    time.time_ns = clock.time_ns
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
