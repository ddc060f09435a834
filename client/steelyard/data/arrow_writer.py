"""Parquet files and directories as `datasets` saves them, from rows whose types are only known in the end."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from steelyard.data.extras import arrow
from steelyard.data.sources import Rows
from steelyard.errors import InvalidCall

pa = arrow()
pq = arrow("parquet")
_BATCH_ROWS = 1000
_SHARD_BYTES = 500 * 2**20


class ParquetWriter:
    """One file, or a directory of files of about 500 MiB."""

    def __init__(self, *, directory: bool) -> None:
        self._directory = directory

    def write(self, draft: Path, rows: Iterable[Rows]) -> None:
        with _staged(draft, rows) as (schema, batches):
            if not self._directory:
                with pq.ParquetWriter(draft, schema) as file:
                    for batch in batches:
                        file.write_batch(batch)
                return
            draft.mkdir()
            for number, shard in enumerate(_shards(batches)):
                with pq.ParquetWriter(draft / f"data-{number:05}.parquet", schema) as file:
                    for batch in shard:
                        file.write_batch(batch)


class DatasetsWriter:
    """What `datasets.load_from_disk` reads."""

    def write(self, draft: Path, rows: Iterable[Rows]) -> None:
        draft.mkdir()
        names: list[str] = []
        whole = hashlib.sha256()
        with _staged(draft, rows) as (schema, batches):
            for number, shard in enumerate(_shards(batches)):
                names.append(f"data-{number:05}.arrow")
                with pa.OSFile(str(draft / names[-1]), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
                    for batch in shard:
                        stream.write_batch(batch)
        for name in names:
            with (draft / name).open("rb") as written:
                whole.update(hashlib.file_digest(written, "sha256").digest())
        state: dict[str, object] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": whole.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (draft / "state.json").write_text(json.dumps(state, indent=2))
        (draft / "dataset_info.json").write_text(json.dumps({"citation": "", "description": "", "features": None}))


@contextmanager
def _staged(draft: Path, rows: Iterable[Rows]) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The rows' common schema, and the rows as batches of it.

    They wait on the disk, one file for each schema that some of them have. Raises InvalidCall when there is none in
    common.
    """
    with TemporaryDirectory(dir=draft.parent, prefix=draft.name + ".") as folder:
        files = list(_stage(Path(folder), rows))
        try:
            schema = pa.unify_schemas([schema for schema, _ in files], promote_options="permissive")
        except pa.ArrowException as error:
            raise InvalidCall(f"the rows have no common types: {_one_line(error)}; write .jsonl") from None
        yield schema, _read(files, schema)


def _stage(folder: Path, rows: Iterable[Rows]) -> Iterator[tuple[Any, Path]]:
    alike = groupby(_batches(rows), lambda batch: batch.schema)
    for number, (schema, batches) in enumerate(alike):
        path = folder / f"{number:06}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
        yield schema, path


def _batches(rows: Iterable[Rows]) -> Iterator[Any]:
    """Rows in JSON gathered to batches, and batches as they are; at least one, be it empty."""
    gathered: list[dict[str, object]] = []
    made = 0
    for some in rows:
        if not isinstance(some, list):
            made += 1
            yield some
            continue
        gathered += some
        if len(gathered) >= _BATCH_ROWS:
            made += 1
            yield _batch(gathered)
            gathered = []
    if gathered or not made:
        yield _batch(gathered)


def _batch(rows: list[dict[str, object]]) -> Any:  # noqa: ANN401
    names = dict.fromkeys(name for row in rows for name in row)
    columns = []
    for name in names:
        try:
            columns.append(pa.array([row.get(name) for row in rows]))
        except (pa.ArrowException, OverflowError) as error:
            raise InvalidCall(
                f"column {name!r} has values of several types: {_one_line(error)}; write .jsonl"
            ) from None
    return pa.record_batch(columns, names=list(names))


def _read(files: Iterable[tuple[Any, Path]], schema: Any) -> Iterator[Any]:  # noqa: ANN401
    for own, path in files:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield batch if own.equals(schema) else _cast(batch, schema)


def _cast(batch: Any, schema: Any) -> Any:  # noqa: ANN401
    nulls = [pa.nulls(batch.num_rows, field.type) for field in schema]
    names = batch.schema.names
    columns = [
        batch.column(field.name).cast(field.type) if field.name in names else missing
        for field, missing in zip(schema, nulls, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


def _shards(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """At least one, be it empty."""
    following: list[Any] = []

    def shard(first: Any) -> Iterator[Any]:  # noqa: ANN401
        size, batch = 0, first
        while batch is not None and size < _SHARD_BYTES:
            yield batch
            size += batch.nbytes
            batch = next(batches, None)
        following[:] = [] if batch is None else [batch]

    first = next(batches, None)
    if first is None:
        yield iter(())
        return
    yield shard(first)
    while following:
        yield shard(following.pop())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
