"""How far a run is, on stderr."""

import time
from collections.abc import Callable
from typing import TextIO

_TERMINAL_S, _LOG_S = 0.2, 15.0


class Progress:
    """One line that is redrawn on a terminal, a line now and then elsewhere; the clock may be passed in."""

    def __init__(
        self, what: str, total: int, kept: int, out: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._kept = what, total, kept
        self._out, self._clock = out, clock
        self._live = out.isatty()
        self._done = self._failed = 0
        self._start = self._shown = clock()

    @property
    def done(self) -> int:
        """Groups that need no scoring any more."""
        return self._kept + self._done

    def advance(self, *, failed: bool) -> None:
        """One more group is recorded."""
        self._done += 1
        self._failed += failed
        now = self._clock()
        if now - self._shown >= (_TERMINAL_S if self._live else _LOG_S):
            self._shown = now
            self._write(self.line(now))

    def close(self) -> None:
        """The last word."""
        self._write(self.line(self._clock()))
        if self._live:
            print(file=self._out)

    def line(self, now: float) -> str:
        """`visualprm: 120/2866 (4 %), 100 kept, 3.5/s, 13 min left, 2 failed`."""
        elapsed_s = max(now - self._start, 1e-9)
        rate = self._done / elapsed_s
        share = 100 * self.done // max(self._total, 1)
        parts = [f"{self._what}: {self.done}/{self._total} ({share} %)"]
        parts += [f"{self._kept} kept"] if self._kept else []
        parts += [f"{rate:.3g}/s"] if self._done else []
        left = self._total - self.done
        parts += [f"{_duration(left / rate)} left"] if left and self._done else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join(parts)

    def _write(self, line: str) -> None:
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", file=self._out, flush=True)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
