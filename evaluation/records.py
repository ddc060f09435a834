"""Results on disk as they come, one JSON line a scored group, so that an interrupted run goes on where it stopped."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from evaluation.errors import EvaluationError
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
    """A file of records that one run at a time appends to; the latest of a key counts."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._found = {record.key: record for record in read_records(path)}

    def find(self, id: str, input: str, provenance: Provenance) -> Record | None:
        by = "/".join((provenance.weights, provenance.tokenizer, provenance.dtype))
        return self._found.get((id, input, by))

    def append(self, record: Record) -> None:
        """Kept from now on, whatever happens to this process."""
        line = record.model_dump_json(exclude_none=True).encode() + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise EvaluationError(f"{self.path}: the disk is full")
        self._found[record.key] = record


@contextmanager
def open_records(folder: Path) -> Iterator[Records]:
    """The records of a run's folder. Raises EvaluationError when another run is writing them."""
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise EvaluationError(f"--out {folder}: {(error.strerror or str(error)).lower()}") from None
    try:
        _lock(path, descriptor)
        _cut_torn_line(path, descriptor)
        yield Records(path, descriptor)
    finally:
        os.close(descriptor)


def read_records(path: Path) -> list[Record]:
    """Every whole line. Raises EvaluationError that names the file and line which is no record."""
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError:
            raise EvaluationError(f"{path}:{number}: not a record of this version; move the file away") from None
    return records


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EvaluationError(f"{path}: another run is writing it") from None


def _cut_torn_line(path: Path, descriptor: int) -> None:
    """Drop what a killed run left of its last line."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
