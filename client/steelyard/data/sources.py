"""Data sets to read: what all formats have in common, and which format a path is."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from steelyard.data.records import Record
from steelyard.errors import InvalidCall

# Records between two places at which reading may begin; spans of records never cross one (see spans.py).
RANGE = 4096
JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
# Rows of JSON, or a pyarrow.RecordBatch, which is untyped.
Rows: TypeAlias = list[dict[str, object]] | Any


class Block(Protocol):
    """Neighbouring records with all their columns."""

    @property
    def first(self) -> int: ...

    @property
    def count(self) -> int: ...

    def rows(self, places: Sequence[int]) -> list[dict[str, object]]:
        """Some of them; a place is counted from the block's first record."""
        ...

    def column(self, name: str, places: Sequence[int]) -> list[Any]:
        """One column of them."""
        ...

    def extended(self, places: Sequence[int], added: Mapping[str, list[Any]], *, several: bool) -> Rows:
        """Some of them with more columns, one value a place, with `several` a list; one that is there is replaced."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in a file a range begins: its byte, and the lines before it."""

    position: int = 0
    lines: int = 0


START = Mark()


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first look at the whole data set finds; `marks` are those of its ranges, where they are of use."""

    fingerprint: str
    total: int
    columns: tuple[str, ...]
    marks: tuple[Mark, ...] = ()


class Source(Protocol):
    """A data set whose records have a fixed order; pictures' paths are relative to `folder`."""

    @property
    def folder(self) -> Path: ...

    @property
    def files(self) -> Sequence[Path]: ...

    def survey(self) -> Survey:
        """Raises InvalidCall when there is nothing to read."""
        ...

    def records(self, start: int, names: Sequence[str], mark: Mark = START) -> Iterator[Record]:
        """From number `start` on, with these columns at least; `mark` is that of its range, or the data set's start."""
        ...

    def blocks(self) -> Iterator[Block]:
        """All records, in order."""
        ...


def open_source(name: str) -> Source:
    """Raises InvalidCall for what is not there or not a format that can be read."""
    path = Path(name)
    if not path.exists():
        raise InvalidCall(f"{name}: there is no such file or directory")
    if path.name.endswith(JSON_SUFFIXES):
        from steelyard.data.json_lines import JsonLines

        return JsonLines(path)
    if path.is_dir() or path.suffix in (".parquet", ".arrow"):
        from steelyard.data.arrow_source import ArrowSource

        return ArrowSource(path)
    raise InvalidCall(f"{name}: its name ends in none of {', '.join((*JSON_SUFFIXES, '.parquet', '.arrow'))}")


def fingerprint(files: Sequence[Path]) -> str:
    """Of the files' contents, in order."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
