"""JSON Lines, also compressed: a record is a line that is not blank."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from steelyard.data.records import BadRecord, Record, Row
from steelyard.data.sources import RANGE, START, Mark, Survey, fingerprint
from steelyard.errors import InvalidCall

# As much as a server takes of one call.
MOST_LINE_BYTES = 64 * 2**20
_BLOCK_RECORDS, _BLOCK_BYTES = 1000, 8 * 2**20


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is not blank; without content it is longer than it may be."""

    number: int
    position: int
    content: bytes | None

    @property
    def size(self) -> int:
        return len(self.content or b"")


class JsonLines:
    """A file of JSON Lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = path.parent
        self.files = [path]

    def survey(self) -> Survey:
        """Every line is looked at: one may have columns that no other has."""
        total, marks, error = 0, list[Mark](), ""
        columns: dict[str, None] = {}
        for line in self._lines(START):
            if total % RANGE == 0:
                marks.append(Mark(line.position, line.number - 1))
            total += 1
            row = _row(line)
            if isinstance(row, BadRecord):
                error = error or row.message
            else:
                columns.update(dict.fromkeys(row))
        if total == 0:
            raise InvalidCall(f"{self._path}: is empty: it has no records")
        if not columns:
            raise InvalidCall(f"{self._path}: no line can be read as a record: {error or 'they have no columns'}")
        return Survey(fingerprint([self._path]), total, tuple(columns), tuple(marks))

    def records(self, start: int, names: Sequence[str], mark: Mark = START) -> Iterator[Record]:
        first = start // RANGE * RANGE if mark != START else 0
        for index, line in enumerate(self._lines(mark), first):
            if index >= start:
                yield Record(index, f"line {line.number}", _row(line))

    def blocks(self) -> Iterator["JsonBlock"]:
        first, rows, size = 0, list[Row | BadRecord](), 0
        for line in self._lines(START):
            if rows and (len(rows) == _BLOCK_RECORDS or size + line.size > _BLOCK_BYTES):
                yield JsonBlock(first, len(rows), rows)
                first, rows, size = first + len(rows), [], 0
            rows.append(_row(line))
            size += line.size
        if rows:
            yield JsonBlock(first, len(rows), rows)

    def _lines(self, mark: Mark) -> Iterator[_Line]:
        """Raises InvalidCall for a file that cannot be read to its end."""
        try:
            with self._opened() as file:
                file.seek(mark.position)
                yield from _lines(file, mark)
        except (OSError, EOFError) as error:
            raise InvalidCall(f"{self._path}: cannot be read: {error}") from None

    def _opened(self) -> BinaryIO:
        compressed = self._path.suffix == ".gz"
        return cast(BinaryIO, gzip.open(self._path)) if compressed else self._path.open("rb")


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """Lines that were read together."""

    first: int
    count: int
    _rows: Sequence[Row | BadRecord]

    def rows(self, places: Sequence[int]) -> list[dict[str, object]]:
        return [dict(cast(Row, self._rows[place])) for place in places]

    def column(self, name: str, places: Sequence[int]) -> list[Any]:
        return [cast(Row, self._rows[place])[name] for place in places]

    def extended(
        self, places: Sequence[int], added: Mapping[str, list[Any]], *, several: bool
    ) -> list[dict[str, object]]:
        rows = self.rows(places)
        for name, values in added.items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        return rows


def _lines(file: BinaryIO, mark: Mark) -> Iterator[_Line]:
    position, number = mark.position, mark.lines
    while content := file.readline(MOST_LINE_BYTES + 1):
        number, begin, length = number + 1, position, len(content)
        fits = length <= MOST_LINE_BYTES
        while not fits and not content.endswith(b"\n"):
            if not (content := file.readline(MOST_LINE_BYTES)):
                break
            length += len(content)
        position += length
        if not fits:
            yield _Line(number, begin, None)
        elif content := content.strip():
            yield _Line(number, begin, content)


def _row(line: _Line) -> Row | BadRecord:
    if line.content is None:
        return BadRecord("too_large", f"line {line.number} is longer than {MOST_LINE_BYTES // 2**20} MiB")
    try:
        row: object = json.loads(line.content)
    except (ValueError, RecursionError) as error:
        return BadRecord("malformed", f"line {line.number} is not JSON: {error}")
    if not isinstance(row, dict):
        return BadRecord("malformed", f"line {line.number} is no JSON object but a {type(row).__name__}")
    return row
