"""What came of a run, counted from its journal; as a text with a histogram, and as JSON."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from steelyard.display import visible
from steelyard.table import bar

_BINS = 10
_SCORES = "FROM candidates JOIN outcomes ON id = outcome WHERE score IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores from `low` up to `high`, which the last bin includes."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts are of candidates unless named otherwise; `copies` share the outcome of an equal one before them."""

    settings: Mapping[str, str]
    records: int
    candidates: int
    scored: int
    copies: int
    retryable: int
    statuses: Mapping[str, int]
    written: int
    output: str
    mean: float | None
    histogram: tuple[Bin, ...]

    @property
    def complete(self) -> bool:
        """Whether every record could be read, and every candidate has a score."""
        return set(self.statuses) <= {"ok"}

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no summary."""
        fields = json.loads(text)
        return cls(**{**fields, "histogram": tuple(Bin(**each) for each in fields["histogram"])})

    def lines(self) -> list[str]:
        copies = f" ({self.copies:,} copies of others)" if self.copies else ""
        lines = [f"{self.records:,} records, {self.candidates:,} candidates: {self.scored:,} scored{copies}"]
        lines += [f"  {count:,} {status}" for status, count in self.statuses.items() if status != "ok"]
        if self.retryable:
            lines.append(f"  {self.retryable:,} of them may be scored by --resume")
        if self.mean is not None:
            lines.append(f"scores of {self.settings['model']}, on average {self.mean:.4f}:")
        most = max((each.count for each in self.histogram), default=0)
        for each in self.histogram:
            ends = f"{each.low:9.3f} to {each.high:8.3f}"
            lines.append(f"{ends}  {bar(each.count / most if most else 0)}  {each.count:,}")
        return [visible(line) for line in [*lines, f"{self.written:,} rows in {self.output}"]]


def summarise(
    database: sqlite3.Connection, settings: Mapping[str, str], written: int, output: str, *, probabilities: bool
) -> Summary:
    """Scores that are probabilities have the bins 0 to 1, others those between the lowest and the highest."""
    joined = "FROM candidates JOIN outcomes ON id = outcome"
    statuses = dict(database.execute(f"SELECT status, count(*) {joined} GROUP BY status ORDER BY 2 DESC, 1"))
    records, candidates = database.execute("SELECT count(DISTINCT record), count(prompt) FROM candidates").fetchone()
    scored, different, mean, low, high = database.execute(
        f"SELECT count(*), count(DISTINCT outcome), avg(score), min(score), max(score) {_SCORES}"
    ).fetchone()
    (retryable,) = database.execute(f"SELECT count(*) {joined} WHERE retryable").fetchone()
    ends = (0.0, 1.0) if probabilities else (low, high)
    return Summary(
        settings=settings,
        records=records,
        candidates=candidates,
        scored=scored,
        copies=scored - different,
        retryable=retryable,
        statuses=statuses,
        written=written,
        output=output,
        mean=mean,
        histogram=_histogram(database, *ends) if scored else (),
    )


def _histogram(database: sqlite3.Connection, low: float, high: float) -> tuple[Bin, ...]:
    width = (high - low) / _BINS
    place = "0" if width == 0 else f"max(0, min({_BINS - 1}, CAST((score - :low) / :width AS INTEGER)))"
    values = {"low": low, "width": width}
    counts = dict(database.execute(f"SELECT {place} AS bin, count(*) {_SCORES} GROUP BY bin", values))
    bins = 1 if width == 0 else _BINS
    return tuple(Bin(low + number * width, low + (number + 1) * width, counts.get(number, 0)) for number in range(bins))
