"""What a case came to, and how a run is summed up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# Everywhere in float32: |difference| ≤ TOLERANCE · (1 + |score|).
TOLERANCE = 1e-5


@dataclass(slots=True)
class Verdict:
    """One case: the lines that say what differs, and the worst |difference| / (1 + |score|) of its scores."""

    id: str
    differences: list[str] = field(default_factory=list)
    worst: float = 0.0
    off_float32: float = 0.0
    note: str = ""

    @property
    def passed(self) -> bool:
        return not self.differences

    def exactly(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.differences.append(f"{what}: expected {_short(expected)}, found {_short(found)}")

    def closely(
        self, what: str, found: Sequence[float] | None, expected: Sequence[float], tolerance: float = TOLERANCE
    ) -> None:
        if found is None or len(found) != len(expected):
            self.differences.append(f"{what}: expected {_short(expected)}, found {_short(found)}")
            return
        for one, other in zip(found, expected, strict=True):
            off = abs(one - other) / (1 + abs(other))
            # NaN is never within a tolerance.
            self.worst = max(self.worst, off) if off == off else float("inf")
            if not off <= tolerance:
                self.differences.append(f"{what}: expected {other!r}, found {one!r}")
                return

    def nearly(self, what: str, found: npt.ArrayLike, expected: Sequence[float], tolerance: float) -> None:
        """For statistics, which count for no score: relatively and absolutely within the tolerance."""
        if not np.allclose(found, expected, rtol=tolerance, atol=tolerance):
            self.differences.append(f"{what}: expected {expected}, found {np.asarray(found).tolist()}")


def print_report(verdicts: Iterable[Verdict], *, verbose: bool = False) -> int:
    """Print each case that differs, then `N passed, N failed, worst D`; the exit status."""
    passed = failed = 0
    worst = 0.0
    for verdict in verdicts:
        passed, failed = passed + verdict.passed, failed + (not verdict.passed)
        worst = max(worst, verdict.worst)
        for line in verdict.differences:
            print(f"{verdict.id}: {line}")
        if verdict.note and (verbose or not verdict.passed):
            print(f"{verdict.id}: {verdict.note}")
    print(f"{passed} passed, {failed} failed, worst {worst:.1e}")
    return 1 if failed or not passed else 0


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-80:]}"
