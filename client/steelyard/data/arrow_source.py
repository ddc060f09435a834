"""Parquet files, Arrow files and directories of them, such as the package `datasets` saves; read by pyarrow alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.data.extras import arrow
from steelyard.data.records import Record
from steelyard.data.sources import START, Mark, Survey, fingerprint
from steelyard.errors import InvalidCall

pa = arrow()
pq = arrow("parquet")
# Few, since a row may hold pictures.
_BATCH = 256
# Of the columns that filtering adds, so that one that is all null has its type too.
_NUMBERS = pa.list_(pa.float64())
_TYPES = {
    "score": pa.float64(),
    "score_status": pa.string(),
    "score_detail": pa.string(),
    "step_scores": _NUMBERS,
    "step_logits": _NUMBERS,
    "step_spans": pa.list_(pa.list_(pa.int64())),
}


class ArrowSource:
    """Files of one schema, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files = _files_of(path) if path.is_dir() else [path]
        self.folder = path if path.is_dir() else path.parent

    def survey(self) -> Survey:
        files = [_opened(file) for file in self.files]
        total, names = sum(file.count for file in files), files[0].schema.names
        for path, file in zip(self.files, files, strict=True):
            if not file.schema.equals(files[0].schema, check_metadata=False):
                raise InvalidCall(f"{path}: its columns are not those of {self.files[0]}")
        if total == 0:
            raise InvalidCall(f"{self._path}: is empty: it has no records")
        return Survey(fingerprint(self.files), total, tuple(names))

    def records(self, start: int, names: Sequence[str], mark: Mark = START) -> Iterator[Record]:
        for first, batch in self._batches(start, names):
            yield from (Record(index, f"record {index + 1}", row) for index, row in enumerate(batch.to_pylist(), first))

    def blocks(self) -> Iterator["ArrowBlock"]:
        for first, batch in self._batches(0, None):
            yield ArrowBlock(first, batch.num_rows, batch)

    def _batches(self, start: int, names: Sequence[str] | None) -> Iterator[tuple[int, Any]]:
        """Number of its first record, batch; those before `start` are passed over by whole row groups."""
        first = 0
        try:
            for path in self.files:
                file = _opened(path)
                if first + file.count > start:
                    yield from file.batches(first, start, names)
                first += file.count
        except (pa.ArrowException, OSError) as error:
            raise InvalidCall(f"{self._path}: cannot be read: {_one_line(error)}") from None


@dataclass(frozen=True, slots=True)
class ArrowBlock:
    """A batch of all columns."""

    first: int
    count: int
    batch: Any

    def rows(self, places: Sequence[int]) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.batch.take(pa.array(places, pa.int64())).to_pylist()
        return found

    def column(self, name: str, places: Sequence[int]) -> list[Any]:
        found: list[Any] = self.batch.column(name).take(pa.array(places, pa.int64())).to_pylist()
        return found

    def extended(self, places: Sequence[int], added: Mapping[str, list[Any]], *, several: bool) -> Any:  # noqa: ANN401
        batch = self.batch.take(pa.array(places, pa.int64()))
        for name, values in added.items():
            found = batch.schema.get_field_index(name)
            if found < 0:
                batch = batch.append_column(name, _added_array(name, values, several=several))
            else:
                kind = batch.schema.field(found)
                batch = batch.set_column(found, kind, pa.array(values, kind.type))
        return batch


class _ParquetFile:
    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self.count: int = self._file.metadata.num_rows
        self.schema = self._file.schema_arrow

    def batches(self, first: int, start: int, names: Sequence[str] | None) -> Iterator[tuple[int, Any]]:
        groups: list[int] = []
        for group in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if groups or first + rows > start:
                groups.append(group)
            else:
                first += rows
        columns = None if names is None else [name for name in names if name in self.schema.names]
        for batch in self._file.iter_batches(_BATCH, row_groups=groups, columns=columns):
            yield from _cut(first, batch, start)
            first += batch.num_rows


class _ArrowFile:
    """Arrow's stream, as `datasets` writes it, or its file format."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reader() as reader:
            self.schema = reader.schema
            self.count = sum(batch.num_rows for batch in reader)

    def batches(self, first: int, start: int, names: Sequence[str] | None) -> Iterator[tuple[int, Any]]:
        with self._reader() as reader:
            for whole in reader:
                for begin in range(0, whole.num_rows, _BATCH):
                    batch = whole.slice(begin, _BATCH)
                    if names is not None:
                        batch = batch.select([name for name in names if name in self.schema.names])
                    yield from _cut(first, batch, start)
                    first += batch.num_rows

    def _reader(self) -> Any:  # noqa: ANN401
        # Not mapped: its pages would count as this process's memory.
        file = pa.OSFile(str(self._path))
        try:
            return pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.RecordBatchReader.from_batches(*_file_batches(pa.ipc.open_file(file)))


def _file_batches(reader: Any) -> tuple[Any, Iterator[Any]]:  # noqa: ANN401
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _cut(first: int, batch: Any, start: int) -> Iterator[tuple[int, Any]]:  # noqa: ANN401
    """The batch without what is before `start`."""
    before = max(0, start - first)
    if before < batch.num_rows:
        yield first + before, batch.slice(before)


def _opened(path: Path) -> _ParquetFile | _ArrowFile:
    try:
        return _ParquetFile(path) if path.suffix == ".parquet" else _ArrowFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InvalidCall(f"{path}: cannot be read: {_one_line(error)}") from None


def _files_of(folder: Path) -> list[Path]:
    """Those that `datasets` names in its state, else all that are Parquet. Raises InvalidCall."""
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(sorted(child.name for child in folder.iterdir() if child.is_dir()))
        raise InvalidCall(f"{folder}: has the splits {splits}; name one, for example {folder}/{splits.split(',')[0]}")
    if (folder / "state.json").exists():
        try:
            state = json.loads((folder / "state.json").read_bytes())
            files = [folder / entry["filename"] for entry in state["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise InvalidCall(f"{folder}/state.json: not what `datasets` writes") from None
    else:
        files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise InvalidCall(f"{folder}: there is no Parquet file in it, and no state.json of `datasets`")
    return files


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _added_array(name: str, values: Sequence[Any], *, several: bool) -> Any:  # noqa: ANN401
    """A column whose values are one candidate's each, or with `several` lists of them."""
    known = next((kind for ending, kind in _TYPES.items() if name.endswith(ending)), pa.int64())
    return pa.array(values, pa.list_(known) if several else known)
