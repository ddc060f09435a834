"""Resident memory of processes over a run, and how fast it grows."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from itertools import combinations

import psutil

_MIB = 2**20
_EVERY_S = 0.5


@dataclass(slots=True)
class Growth:
    """A process and its samples: seconds since the start of the run, MiB."""

    name: str
    samples: list[tuple[float, float]] = field(default_factory=list)

    def slope(self, after_s: float = 0.0) -> float:
        """MiB a minute: the median slope of all pairs of samples, so that neither a step nor an outlier decides."""
        kept = [sample for sample in self.samples if sample[0] >= after_s]
        slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in combinations(kept, 2) if x1 > x0]
        return 60 * statistics.median(slopes) if slopes else 0.0


class Watch:
    """Samples a process tree until it is told to stop."""

    def __init__(self, name: str, pid: int) -> None:
        self._name = name
        self._root = psutil.Process(pid)
        self._began = time.monotonic()
        self.growths: dict[int, Growth] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(_EVERY_S)

    def sample(self) -> None:
        at_s = time.monotonic() - self._began
        for process in self._processes():
            growth = self.growths.setdefault(process.pid, Growth(self._called(process)))
            try:
                growth.samples.append((at_s, process.memory_info().rss / _MIB))
            except psutil.Error:
                continue

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []

    def _called(self, process: psutil.Process) -> str:
        if process.pid == self._root.pid:
            return self._name
        try:
            words = process.cmdline()
        except psutil.Error:
            words = []
        module = words[words.index("-m") + 1] if "-m" in words[:-1] else "child"
        return f"{module} {process.pid}"
