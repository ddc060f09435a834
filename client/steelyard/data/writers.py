"""Data sets to write: a draft beside the output takes its place when it is whole."""

import base64
import gzip
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

from steelyard.data.sources import JSON_SUFFIXES, Rows
from steelyard.errors import InvalidCall

Format = Literal["jsonl", "parquet", "datasets", "parquet-directory"]
FORMATS: tuple[Format, ...] = ("jsonl", "parquet", "datasets", "parquet-directory")


class Writer(Protocol):
    """Writes a file or a directory."""

    def write(self, draft: Path, rows: Iterable[Rows]) -> None: ...


def format_of(path: Path) -> Format:
    """By its name; one without a suffix is a directory of `datasets`. Raises InvalidCall."""
    if path.name.endswith(JSON_SUFFIXES):
        return "jsonl"
    if path.suffix == ".parquet":
        return "parquet"
    if path.suffix and not path.is_dir():
        raise InvalidCall(f"{path}: the format is not clear from its name; --format is one of {', '.join(FORMATS)}")
    return "datasets"


def open_writer(form: Format, path: Path) -> Writer:
    """Raises InvalidCall when pyarrow is needed and not there."""
    if form == "jsonl":
        return JsonWriter(compressed=path.suffix == ".gz")
    from steelyard.data.arrow_writer import DatasetsWriter, ParquetWriter

    return DatasetsWriter() if form == "datasets" else ParquetWriter(directory=form == "parquet-directory")


def write_whole(writer: Writer, path: Path, rows: Iterable[Rows]) -> None:
    """The output is there as a whole or not at all; what was there is replaced."""
    draft = path.with_name(path.name + ".new")
    discard(draft)
    writer.write(draft, rows)
    if draft.is_dir() or path.is_dir():
        discard(path)
    os.replace(draft, path)


def discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class JsonWriter:
    """A row a line; bytes become data URLs."""

    def __init__(self, *, compressed: bool = False) -> None:
        self._compressed = compressed

    def write(self, draft: Path, rows: Iterable[Rows]) -> None:
        with draft.open("wb") as file:
            # Without a time and a name, so that equal rows make equal files.
            whole = cast(BinaryIO, gzip.GzipFile("", "wb", 6, file, 0)) if self._compressed else file
            for some in rows:
                listed: list[dict[str, object]] = some if isinstance(some, list) else some.to_pylist()
                whole.writelines(_line(row) for row in listed)
            if self._compressed:
                whole.close()
            file.flush()
            os.fsync(file.fileno())


def _line(row: dict[str, object]) -> bytes:
    with suppress(UnicodeEncodeError):
        return json.dumps(row, ensure_ascii=False, default=_plain).encode() + b"\n"
    # Half of a surrogate pair can only be spelt out.
    return json.dumps(row, default=_plain).encode() + b"\n"


def _plain(value: Any) -> object:  # noqa: ANN401
    if isinstance(value, bytes):
        return "data:;base64," + base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)
