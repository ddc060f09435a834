"""Every format in and out: the same records, in the same order, with the same scores."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steelyard.data.json_lines import JsonLines
from steelyard.data.records import BadRecord
from steelyard.data.sources import RANGE, open_source
from steelyard.data.writers import open_writer, write_whole
from steelyard.errors import InvalidCall
from tests.client.data.running import digest_server, filtered, read_lines, records, write_lines

Rows = list[dict[str, Any]]
PICTURE = (Path(__file__).parents[3] / "examples" / "circle.png").read_bytes()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with digest_server() as server:
        yield server.url


def as_lines(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    return write_lines(folder / "in.jsonl", rows)


def as_gzip(folder: Path, rows: Rows) -> Path:
    path = folder / "in.jsonl.gz"
    path.write_bytes(gzip.compress(as_lines(folder, rows).read_bytes()))
    return path


def as_parquet(folder: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet", row_group_size=70)
    return folder / "in.parquet"


def as_parquet_directory(folder: Path, rows: Rows) -> Path:
    (folder / "in" / "deeper").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows[:30]), folder / "in" / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[30:]), folder / "in" / "deeper" / "b.parquet")
    return folder / "in"


def as_datasets(folder: Path, rows: Rows) -> Path:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "in"), num_shards=3)
    return folder / "in"


def as_arrow_file(folder: Path, rows: Rows) -> Path:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / "in.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=40)
    return folder / "in.arrow"


def read_back(path: Path) -> Rows:
    if path.name.endswith(".jsonl"):
        return read_lines(path)
    if path.name.endswith(".jsonl.gz"):
        return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    if path.suffix == ".parquet" or not (path / "state.json").exists():
        found: Rows = pq.read_table(path).to_pylist()
        return found
    return [dict(row) for row in datasets.load_from_disk(str(path))]


INPUTS = [as_lines, as_gzip, as_parquet, as_parquet_directory, as_datasets, as_arrow_file]


@pytest.mark.parametrize("write", INPUTS)
def test_records_from_any_place_on(write: Callable[[Path, Rows], Path], tmp_path: Path) -> None:
    rows = records(200)
    source = open_source(str(write(tmp_path, rows)))
    survey = source.survey()
    assert (survey.total, survey.columns) == (200, ("id", "question", "response"))
    for start in (0, 1, 70, 150, 199):
        found = list(source.records(start, ["question", "response"]))
        assert [record.index for record in found] == [*range(start, 200)]
        assert [record.row["response"] for record in found] == [row["response"] for row in rows[start:]]  # type: ignore[index]
    assert list(source.records(200, [])) == []
    blocks = list(source.blocks())
    assert [block.first for block in blocks] == [sum(each.count for each in blocks[:n]) for n in range(len(blocks))]
    assert [row for block in blocks for row in block.rows(range(block.count))] == rows


@pytest.mark.parametrize(
    ("write", "name", "more"),
    [
        (as_lines, "out.parquet", ()),
        (as_lines, "out", ()),
        (as_gzip, "out.jsonl.gz", ()),
        (as_parquet, "out.jsonl", ()),
        (as_parquet, "out.parquet", ()),
        (as_datasets, "out", ()),
        (as_datasets, "out", ("--format", "parquet-directory")),
    ],
)
def test_scores_are_added_whatever_the_format(
    url: str, write: Callable[[Path, Rows], Path], name: str, more: Sequence[str], tmp_path: Path
) -> None:
    rows = records(120)
    ended = filtered(url, write(tmp_path, rows), tmp_path / name, *more)
    assert ended.code == 0, ended.err
    found = read_back(tmp_path / name)
    assert [{key: row[key] for key in ("id", "question", "response")} for row in found] == rows
    for row in found:
        assert row["score"] == pytest.approx(sum(row["step_scores"]) / 2)
        assert (row["score_status"], row["score_detail"]) == ("ok", None)
        assert [row["response"][start:end] for start, end in row["step_spans"]] == row["response"].split("\n\n")


def test_equal_runs_make_equal_bytes(url: str, tmp_path: Path) -> None:
    data = as_lines(tmp_path, records(40))
    for name in ("{}.jsonl.gz", "{}.parquet"):
        for run in "ab":
            assert filtered(url, data, tmp_path / name.format(run), "--top", "1").code == 0
        assert (tmp_path / name.format("a")).read_bytes() == (tmp_path / name.format("b")).read_bytes()


def test_pictures_that_datasets_embeds_stay_pictures(url: str, tmp_path: Path) -> None:
    features = datasets.Features(
        {"question": datasets.Value("string"), "response": datasets.Value("string"), "image": datasets.Image()}
    )
    rows = [
        {"question": f"What {n}?", "response": "A circle.", "image": {"bytes": PICTURE, "path": None}} for n in range(5)
    ]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "in"))
    ended = filtered(url, tmp_path / "in", tmp_path / "out")
    assert ended.code == 0, ended.err
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert isinstance(found.features["image"], datasets.Image)
    assert found[4]["image"].size == (64, 64)
    assert found[4]["score"] is not None
    # In JSON bytes are data URLs, which can be read again.
    assert filtered(url, tmp_path / "in", tmp_path / "out.jsonl").code == 0
    assert read_lines(tmp_path / "out.jsonl")[0]["image"]["bytes"].startswith("data:;base64,")
    again = filtered(url, tmp_path / "out.jsonl", tmp_path / "again.jsonl", "--prefix", "new_")
    assert (again.code, read_lines(tmp_path / "again.jsonl")[3]["new_score"]) == (0, found[3]["score"])


def test_what_arrow_cannot_hold_is_told_and_json_can(url: str, tmp_path: Path) -> None:
    rows = [row | {"meta": index if index < 1500 else "text"} for index, row in enumerate(records(2000, together=50))]
    data = as_lines(tmp_path, rows)
    ended = filtered(url, data, tmp_path / "out.parquet")
    assert ended.code == 1
    assert "'meta'" in ended.err or "meta" in ended.err
    assert "write .jsonl" in ended.err
    assert not (tmp_path / "out.parquet").exists()
    # What was scored is not lost with it.
    assert filtered(url, data, tmp_path / "out.parquet", "--resume", "--format", "jsonl").code == 0
    assert len(read_lines(tmp_path / "out.parquet")) == 2000


def test_columns_that_begin_with_nulls_have_their_type(tmp_path: Path) -> None:
    rows: Rows = [{"a": None if index < 1500 else "text", "b": []} for index in range(2500)]
    rows += [{"b": [index], "c": 1.5} for index in range(10)]
    write_whole(open_writer("parquet", tmp_path / "x.parquet"), tmp_path / "x.parquet", ([row] for row in rows))
    found = pq.read_table(tmp_path / "x.parquet")
    assert found.schema.names == ["a", "b", "c"]
    assert found.column("a").to_pylist()[1499:1501] == [None, "text"]
    assert found.column("b").to_pylist()[-1] == [9]
    assert [*tmp_path.iterdir()] == [tmp_path / "x.parquet"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x"])
def test_nothing_kept_is_an_empty_data_set(url: str, name: str, tmp_path: Path) -> None:
    ended = filtered(url, as_lines(tmp_path, records(8)), tmp_path / name, "--min-score", "1.5")
    assert (ended.code, read_back(tmp_path / name)) == (0, [])
    assert "0 rows in" in ended.out


def test_ranges_begin_where_the_marks_are(tmp_path: Path) -> None:
    lines = [json.dumps({"n": number}) for number in range(RANGE + 10)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n\n".join(lines) + "\n")
    source = JsonLines(path)
    survey = source.survey()
    assert len(survey.marks) == 2
    found = list(source.records(RANGE + 3, ["n"], survey.marks[1]))
    assert found[0].place == f"line {2 * (RANGE + 3) + 1}"
    assert [record.row for record in found] == [{"n": number} for number in range(RANGE + 3, RANGE + 10)]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "dict" / "train").mkdir(parents=True)
    (tmp_path / "dict" / "dataset_dict.json").write_text("{}")
    (tmp_path / "void").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.csv").write_text("a,b")
    for name, complaint in [
        ("dict", "has the splits train"),
        ("void", "no Parquet file"),
        ("x.csv", "ends in none of"),
        ("none.jsonl", "no such file"),
    ]:
        with pytest.raises(InvalidCall, match=complaint):
            open_source(str(tmp_path / name))
    with pytest.raises(InvalidCall, match=r"bad\.parquet: cannot be read"):
        open_source(str(tmp_path / "bad.parquet")).survey()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 99)[:-9])
    with pytest.raises(InvalidCall, match=r"cut\.jsonl\.gz: cannot be read"):
        open_source(str(tmp_path / "cut.jsonl.gz")).survey()


def test_a_line_that_is_too_long_is_passed_over_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steelyard.data.json_lines.MOST_LINE_BYTES", 50)
    for size in (50, 51, 99, 100, 101, 151, 5000):
        long = json.dumps({"n": "x" * (size - 9)})
        assert len(long) == size
        source = JsonLines(write_lines(tmp_path / "x.jsonl", ['{"n": 1}', long, '{"n": 3}', long]))
        found = list(source.records(0, ["n"]))
        assert [record.row for record in found[::2]] == [{"n": 1}, {"n": 3}]
        for record in found[1::2]:
            assert isinstance(record.row, BadRecord) == (size + 1 > 50)
        assert source.survey().total == 4
