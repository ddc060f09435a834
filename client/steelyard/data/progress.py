"""How far a run is: a bar on a terminal, now and then a line elsewhere; both with the rate and the time left."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

_LINE_EVERY_S = 10.0


@contextmanager
def shown(total: int, done: int, what: str, file: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """A function to be told the number of records that are done."""
    stream = file or sys.stderr
    if stream.isatty() and find_spec("tqdm") is not None:
        from tqdm import tqdm

        with tqdm(total=total, initial=done, desc=what, unit=" records", file=stream, dynamic_ncols=True) as bar:

            def tell(count: int) -> None:
                bar.update(count - bar.n)

            yield tell
    else:
        lines = Lines(total, done, what, stream)
        yield lines.tell
        lines.end()


class Lines:
    """A line every ten seconds, and one in the end."""

    def __init__(
        self, total: int, done: int, what: str, file: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._first, self._done, self._what = total, done, done, what
        self._file = file
        self._clock = clock
        self._started = self._said = clock()

    def tell(self, done: int) -> None:
        self._done = done
        if self._clock() - self._said >= _LINE_EVERY_S:
            self._said = self._clock()
            self._say()

    def end(self) -> None:
        self._say()

    def _say(self) -> None:
        """The rate is that of this run alone."""
        elapsed = self._clock() - self._started
        rate = (self._done - self._first) / elapsed if elapsed > 0 else 0.0
        left = f", {_duration((self._total - self._done) / rate)} left" if 0 < self._done < self._total and rate else ""
        text = f"{self._what}: {self._done:,} of {self._total:,} records, {rate:,.0f} a second{left}"
        print(text, file=self._file, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
