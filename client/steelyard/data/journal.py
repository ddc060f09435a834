"""The journal beside the output: what has been scored, in one SQLite file that a kill at any moment leaves whole.

A span's outcomes and the number of the record after it are one transaction. An outcome stands once under its key,
however many records have it; a record that has nothing to score has an outcome without a key.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic_core import to_json

from steelyard.data.pipeline import ScoredSpan
from steelyard.data.records import Outcome
from steelyard.errors import InvalidCall

_TABLES = """
CREATE TABLE IF NOT EXISTS run (settings TEXT NOT NULL, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, status TEXT NOT NULL, score REAL, retryable INTEGER NOT NULL, detail TEXT,
    steps TEXT);
CREATE TABLE IF NOT EXISTS candidates (
    record INTEGER, number INTEGER, place TEXT NOT NULL, prompt BLOB, outcome INTEGER NOT NULL,
    PRIMARY KEY (record, number)) WITHOUT ROWID;
"""
_ADD_OUTCOME = """
INSERT INTO outcomes (key, status, score, retryable, detail, steps) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET status = excluded.status, score = excluded.score, retryable = excluded.retryable,
    detail = excluded.detail, steps = excluded.steps WHERE outcomes.retryable
"""
_ADD_CANDIDATE = """
INSERT INTO candidates VALUES (?, ?, ?, ?, (SELECT id FROM outcomes WHERE key = ?))
ON CONFLICT (record, number) DO NOTHING
"""
_ROWS = """
SELECT record, number, place, prompt, key, status, score, retryable, detail, steps
FROM candidates JOIN outcomes ON outcomes.id = candidates.outcome
"""
_MOST_KEYS = 500
# For one that is just ending: who writes a journal holds it for as long as it runs.
_PATIENCE_S = 0.2


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate's place in the data set, and its outcome; a record without anything to score has no prompt."""

    record: int
    number: int
    place: str
    prompt: bytes | None
    key: bytes | None
    outcome: Outcome


class Journal:
    """One run's; only one process at a time may have it open."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidCall for a file that is no journal, or that another run holds."""
        self.path = path
        self.database = sqlite3.connect(path, _PATIENCE_S, isolation_level=None, check_same_thread=False)
        try:
            self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.database.execute("PRAGMA journal_mode = WAL")
            # Enough for a kill; of a loss of power, too, the file stays whole.
            self.database.execute("PRAGMA synchronous = NORMAL")
            self.database.execute("PRAGMA cache_size = -32768")
            # Keys come in no order: 32 MiB of pages to bring home at once are mostly the same ones over and over.
            self.database.execute("PRAGMA wal_autocheckpoint = 8192")
            self.database.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            self.database.close()
            raise InvalidCall(f"{path}: another run is writing it, or it cannot be written: {error}") from None
        except sqlite3.DatabaseError as error:
            self.database.close()
            raise InvalidCall(f"{path}: no journal of a run: {error}; --overwrite starts anew") from None

    def begin(self, settings: Mapping[str, str]) -> int:
        """The number of the first record that is not in it yet. Raises InvalidCall for a run with other settings."""
        found = self.database.execute("SELECT settings, next FROM run").fetchone()
        if found is None:
            self.database.execute("INSERT INTO run VALUES (?, 0)", (json.dumps(dict(settings)),))
            return 0
        begun: dict[str, str] = json.loads(found[0])
        other = [name for name in sorted({*begun, *settings}) if begun.get(name) != settings.get(name)]
        if other:
            name = other[0]
            change = f"{name} was {begun.get(name)} and is {settings.get(name)}"
            raise InvalidCall(f"cannot resume: {change}; --overwrite starts anew")
        return int(found[1])

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those whose outcome stands; what may be tried again does not."""
        listed, found = list(keys), set[bytes]()
        for first in range(0, len(listed), _MOST_KEYS):
            some = listed[first : first + _MOST_KEYS]
            marks = ",".join("?" * len(some))
            query = f"SELECT key FROM outcomes WHERE NOT retryable AND key IN ({marks})"
            found.update(key for (key,) in self.database.execute(query, some))
        return found

    def add(self, scored: ScoredSpan) -> None:
        """A span that begins where the one before ended, or that was in it before."""
        self.database.execute("BEGIN")
        self.database.executemany(_ADD_OUTCOME, (_outcome_row(key, each) for key, each in scored.outcomes.items()))
        self.database.executemany(
            _ADD_CANDIDATE, ((each.record, each.number, each.place, each.prompt, each.key) for each in scored.places)
        )
        for each in scored.rejected:
            self._reject(each.record, each.place, each.status, each.detail)
        self.database.execute("UPDATE run SET next = max(next, ?)", (scored.end,))
        self.database.execute("COMMIT")

    def _reject(self, record: int, place: str, status: str, detail: str) -> None:
        values = (None, status, None, 0, detail, None)
        outcome = self.database.execute(_ADD_OUTCOME, values).lastrowid
        self.database.execute(
            "INSERT INTO candidates VALUES (?, 0, ?, NULL, ?) ON CONFLICT DO NOTHING", (record, place, outcome)
        )

    def to_retry(self) -> list[int]:
        """Numbers of the records whose outcome may be another one next time, ascending; an equal one stands for all."""
        query = "SELECT DISTINCT min(record) FROM candidates JOIN outcomes ON id = outcome WHERE retryable GROUP BY id"
        return sorted(record for (record,) in self.database.execute(query))

    def scored(self, where: str = "") -> Iterator[Scored]:
        """All candidates in their order, or some."""
        for row in self.database.cursor().execute(f"{_ROWS} {where} ORDER BY record, number"):
            yield _scored(row)

    def remove(self) -> None:
        """Delete the file; the run is over."""
        self.database.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


def _outcome_row(key: bytes, outcome: Outcome) -> tuple[object, ...]:
    steps = None
    if outcome.step_scores is not None:
        steps = to_json((outcome.step_scores, outcome.step_logits, outcome.step_spans)).decode()
    return key, outcome.status, outcome.score, int(outcome.retryable), outcome.detail, steps


def _scored(row: tuple[object, ...]) -> Scored:
    record, number, place, prompt, key, status, score, retryable, detail, steps = row
    scores, logits, spans = (None, None, None) if steps is None else json.loads(str(steps))
    outcome = Outcome(status, score, bool(retryable), detail, scores, logits, spans)  # type: ignore[arg-type]
    return Scored(record, number, place, prompt, key, outcome)  # type: ignore[arg-type]
