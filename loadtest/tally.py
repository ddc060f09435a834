"""What came of the requests of a run, by priority; tallies of several generators add up."""

from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self

from loadtest.latencies import Latencies
from steelyard.schema import Priority


@dataclass(slots=True)
class Series:
    """The requests of one priority. A latency counts from the planned time: a late send is the caller's wait too."""

    planned: int = 0
    # More were under way than the generator may hold, so these were never sent.
    unsent: int = 0
    # Still without an answer when the run ended.
    unanswered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)
    retry_after: Counter[str] = field(default_factory=Counter)
    # Connections that failed or were closed before an answer, by reason.
    broken: Counter[str] = field(default_factory=Counter)
    accepted: Latencies = field(default_factory=Latencies)
    refused: Latencies = field(default_factory=Latencies)

    @property
    def answered(self) -> int:
        return self.statuses.total()

    @property
    def unexplained(self) -> int:
        """429s without the Retry-After that they must bear."""
        return self.statuses[HTTPStatus.TOO_MANY_REQUESTS] - self.retry_after.total()

    @property
    def improper(self) -> int:
        """Requests that got neither a 200 nor a 429 with Retry-After."""
        proper = self.statuses[HTTPStatus.OK] + self.statuses[HTTPStatus.TOO_MANY_REQUESTS] - self.unexplained
        return self.planned - self.unsent - proper

    def merge(self, other: Self) -> None:
        self.planned += other.planned
        self.unsent += other.unsent
        self.unanswered += other.unanswered
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.candidates, other.candidates),
            (self.retry_after, other.retry_after),
            (self.broken, other.broken),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        self.accepted.merge(other.accepted)
        self.refused.merge(other.refused)


@dataclass(slots=True)
class Tally:
    """A run of one generator or of several: its series, how late it sent, and what it cost itself."""

    series: dict[Priority, Series] = field(default_factory=dict)
    late: Latencies = field(default_factory=Latencies)
    seconds: float = 0.0
    cpu_s: float = 0.0
    connections: int = 0

    def of(self, priority: Priority) -> Series:
        return self.series.setdefault(priority, Series())

    def merge(self, other: Self) -> None:
        for priority, series in other.series.items():
            self.of(priority).merge(series)
        self.late.merge(other.late)
        self.seconds = max(self.seconds, other.seconds)
        self.cpu_s += other.cpu_s
        self.connections += other.connections
