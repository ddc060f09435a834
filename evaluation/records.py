"""What became of every scored group, and what scored it, kept in a journal."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat

from evaluation.journal import Journal, read_lines
from steelyard.schema import Provenance

FILE = "records.jsonl"


class Result(BaseModel):
    """What became of one candidate; without a score unless `status` is `ok`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: str
    score: FiniteFloat | None = None
    step_scores: tuple[FiniteFloat, ...] | None = None
    retryable: bool = False
    detail: str | None = None


class Record(BaseModel):
    """One group's results, what was scored and what scored it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    input: str
    model: str
    weights: str
    tokenizer: str
    dtype: str
    results: tuple[Result, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """Records with the same key are results of the same computation; the served name is no part of it."""
        return self.id, self.input, "/".join((self.weights, self.tokenizer, self.dtype))

    @property
    def settled(self) -> bool:
        """Whether scoring it again would change nothing."""
        return not any(result.retryable for result in self.results)


class Records:
    """The records of a journal; the latest of a key counts."""

    def __init__(self, journal: Journal) -> None:
        self.path = journal.path
        self._journal = journal
        self._found = {record.key: record for record in read_records(journal.path)}

    def find(self, id: str, input: str, provenance: Provenance) -> Record | None:
        by = "/".join((provenance.weights, provenance.tokenizer, provenance.dtype))
        return self._found.get((id, input, by))

    def append(self, record: Record) -> None:
        """Kept from now on, whatever happens to this process."""
        self._journal.append(record.model_dump_json(exclude_none=True))
        self._found[record.key] = record


def read_records(path: Path) -> list[Record]:
    """Of every whole line. Raises EvaluationError that names the file and line which is no record."""
    return read_lines(path, Record)
