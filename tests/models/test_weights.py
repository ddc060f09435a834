import json
import struct
from collections.abc import Callable
from math import inf, nan
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from models import weights
from models.checkpoint import CheckpointError
from models.weights import Wanted, load_weights, stored_tensors

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "visualprm"
CPU = torch.device("cpu")
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"head": (7, 5), "norm": (5,), "scale": (), "tower.patch": (3, 2, 4, 4)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def want(found: dict[str, torch.Tensor]) -> dict[str, Wanted]:
    return {name: Wanted(tuple(tensor.shape)) for name, tensor in found.items()}


def load(directory: Path, wanted: dict[str, Wanted], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return load_weights(directory, wanted, dtype=dtype, device=CPU)


def refusal(directory: Path, wanted: dict[str, Wanted], dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(CheckpointError) as raised:
        load(directory, wanted, dtype)
    message = str(raised.value)
    assert "\n" not in message
    return message


def write_sharded(directory: Path) -> dict[str, torch.Tensor]:
    found = tensors()
    for file, names in ((FIRST, ["head", "norm"]), (SECOND, ["scale", "tower.patch"])):
        save_file({name: found[name] for name in names}, directory / file)
    place(directory, head=FIRST, norm=FIRST, scale=SECOND, **{"tower.patch": SECOND})
    return found


def place(directory: Path, **placed: object) -> None:
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def write_raw(file: Path, header: object, data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("name", ["model.safetensors", "reward.safetensors"])
def test_one_file_loads_as_safetensors_reads_it(tmp_path: Path, name: str) -> None:
    save_file(found := tensors(), tmp_path / name)
    (tmp_path / "modeling_reward.py").write_text("raise SystemExit('a checkpoint ran code')")
    torch.testing.assert_close(load(tmp_path, want(found)), found, rtol=0, atol=0)


def test_shards_load_as_one_checkpoint_in_the_order_of_the_files(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    loaded = load(tmp_path, want(found))
    torch.testing.assert_close(loaded, found, rtol=0, atol=0)
    assert list(loaded) == list(load(tmp_path, dict(reversed(want(found).items()))))


def test_shards_that_are_links_into_the_hub_cache_load(tmp_path: Path) -> None:
    (blobs := tmp_path / "blobs").mkdir()
    (snapshot := tmp_path / "snapshot").mkdir()
    found = write_sharded(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    torch.testing.assert_close(load(snapshot, want(found)), found, rtol=0, atol=0)


@pytest.mark.parametrize("directory", ["tiny-visualprm", "tiny-visualprm-bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_golden_checkpoints_load_bit_for_bit(directory: str, dtype: torch.dtype) -> None:
    files = sorted((GOLDEN / directory).glob("*.safetensors"))
    expected = {name: tensor.to(dtype) for file in files for name, tensor in load_file(file).items()}
    wanted = {name: Wanted(stored.shape) for name, stored in stored_tensors(GOLDEN / directory).items()}
    torch.testing.assert_close(load(GOLDEN / directory, wanted, dtype), expected, rtol=0, atol=0)


@pytest.mark.parametrize("source", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16])
def test_a_cast_in_blocks_equals_a_cast_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: torch.dtype, target: torch.dtype
) -> None:
    monkeypatch.setattr(weights, "_BLOCK", 4)
    found = {name: tensor.to(source) for name, tensor in tensors().items()}
    save_file(found, tmp_path / "model.safetensors")
    expected = {name: tensor.to(target) for name, tensor in found.items()}
    torch.testing.assert_close(load(tmp_path, want(found), target), expected, rtol=0, atol=0)


def test_only_the_wanted_rows_are_kept(tmp_path: Path) -> None:
    save_file(found := tensors(), tmp_path / "model.safetensors")
    wanted = want(found) | {"head": Wanted((7, 5), rows=(6, 2))}
    head = load(tmp_path, wanted)["head"]
    torch.testing.assert_close(head, found["head"][[6, 2]], rtol=0, atol=0)
    assert head.untyped_storage().nbytes() == head.nbytes


def test_loaded_weights_outlive_a_file_that_is_overwritten(tmp_path: Path) -> None:
    save_file(found := tensors(), file := tmp_path / "model.safetensors")
    loaded = load(tmp_path, want(found))
    with file.open("r+b") as stored:
        stored.write(b"\xff" * file.stat().st_size)
    torch.testing.assert_close(loaded, found, rtol=0, atol=0)


def test_every_tensor_owns_exactly_its_memory(tmp_path: Path) -> None:
    save_file(found := tensors(), tmp_path / "model.safetensors")
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in load(tmp_path, want(found)).values())


def test_an_empty_tensor_loads(tmp_path: Path) -> None:
    save_file({"empty": torch.empty(0, 4)}, tmp_path / "model.safetensors")
    assert load(tmp_path, {"empty": Wanted((0, 4))})["empty"].shape == (0, 4)


@pytest.mark.parametrize("name", ["tower.position_ids", "layers.0.rotary_emb.cos", "layers.0.attention.inv_freq"])
def test_stale_buffers_are_ignored_in_the_file_and_in_the_index(tmp_path: Path, name: str) -> None:
    found = write_sharded(tmp_path)
    save_file({"scale": found["scale"], "tower.patch": found["tower.patch"], name: torch.arange(3)}, tmp_path / SECOND)
    assert load(tmp_path, want(found)).keys() == found.keys()
    place(tmp_path, head=FIRST, norm=FIRST, scale=SECOND, **{"tower.patch": SECOND, name: FIRST})
    assert load(tmp_path, want(found)).keys() == found.keys()


def test_progress_counts_the_bytes_of_the_files_up_to_their_sum(tmp_path: Path) -> None:
    found, calls = write_sharded(tmp_path), list[tuple[int, int]]()
    load_weights(tmp_path, want(found), dtype=torch.float16, device=CPU, progress=lambda *call: calls.append(call))
    total = sum(tensor.nbytes for tensor in found.values())
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(calls) == len(found)
    assert calls[-1] == (total, total)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "reward.pt"])
def test_a_pickle_is_refused_by_name_and_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()  # opening it would be an OSError
    message = refusal(tmp_path, {})
    assert name in message
    assert "never opened" in message


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert "model.safetensors is missing" in refusal(tmp_path, {})


def test_shards_without_their_index_are_refused(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    (tmp_path / INDEX).unlink()
    message = refusal(tmp_path, want(found))
    assert f"2 safetensors files but no {INDEX}" in message


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    (tmp_path / SECOND).unlink()
    message = refusal(tmp_path, want(found))
    assert INDEX in message
    assert f"1 of 2 shards missing: '{SECOND}'" in message


@pytest.mark.parametrize(
    "file",
    [
        *("../outside.safetensors", "/etc/outside.safetensors", "sub/outside.safetensors", "./x.safetensors"),
        *("..\\outside.safetensors", "x.safetensors/..", "..", "", "model.bin", 3, None, ["x.safetensors"]),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, file: object) -> None:
    (directory := tmp_path / "checkpoint").mkdir()
    found = write_sharded(directory)
    save_file(found, tmp_path / "outside.safetensors")
    place(directory, head=file, norm=FIRST)
    message = refusal(directory, want(found))
    assert INDEX in message
    assert "'head' must be a .safetensors file of the same folder" in message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "{" * 99999, "\x00", '{"weight_map": {"a": '])
def test_an_unreadable_index_is_named(tmp_path: Path, text: str) -> None:
    write_sharded(tmp_path)
    (tmp_path / INDEX).write_text(text)
    assert INDEX in refusal(tmp_path, want(tensors()))


def test_a_tensor_that_the_index_places_in_the_wrong_shard_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    place(tmp_path, head=SECOND, norm=FIRST, scale=SECOND, **{"tower.patch": SECOND})
    message = refusal(tmp_path, want(found))
    assert f"{FIRST}: holds 'head', which {INDEX} places in '{SECOND}'" in message


def test_a_tensor_that_the_index_does_not_place_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    place(tmp_path, head=FIRST, norm=FIRST, scale=SECOND)
    message = refusal(tmp_path, want(found))
    assert f"{SECOND}: holds 'tower.patch', which {INDEX} places nowhere" in message


def test_a_tensor_that_the_index_places_but_no_shard_holds_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    save_file({"head": found["head"]}, tmp_path / FIRST)
    assert f"{FIRST}: 'norm' is missing" in refusal(tmp_path, want(found))


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    save_file({name: found[name] for name in ("scale", "tower.patch", "norm")}, tmp_path / SECOND)
    assert f"{SECOND}: holds 'norm', which {INDEX} places in '{FIRST}'" in refusal(tmp_path, want(found))


def test_an_index_beside_a_whole_checkpoint_is_refused(tmp_path: Path) -> None:
    save_file(found := write_sharded(tmp_path), tmp_path / "model.safetensors")
    message = refusal(tmp_path, want(found))
    assert "model.safetensors lies beside it" in message


def test_missing_tensors_are_counted_and_the_first_named(tmp_path: Path) -> None:
    save_file(found := tensors(), tmp_path / "model.safetensors")
    message = refusal(tmp_path, want(found) | {f"mlp{number}": Wanted((1,)) for number in range(5)})
    assert "model.safetensors: 5 of 9 tensors missing: 'mlp0', 'mlp1', 'mlp2' …" in message


def test_tensors_that_the_model_has_no_place_for_are_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)
    wanted = want(found)
    del wanted["scale"]
    assert f"{SECOND}: 1 tensors not part of this model: 'scale'" in refusal(tmp_path, wanted)


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    save_file(found := tensors(), tmp_path / "model.safetensors")
    message = refusal(tmp_path, want(found) | {"head": Wanted((5, 7))})
    assert "model.safetensors: 'head': expected shape [5, 7], found [7, 5]" in message


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.int64, "I64"), (torch.bool, "BOOL"), (torch.float8_e4m3fn, "F8_E4M3")]
)
def test_a_dtype_that_is_not_a_float_is_named(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    save_file({"norm": torch.ones(4).to(dtype)}, tmp_path / "model.safetensors")
    message = refusal(tmp_path, {"norm": Wanted((4,))})
    assert f"model.safetensors: 'norm': expected F64, F32, F16, BF16, found {name}" in message


@pytest.mark.parametrize("row", [-1, 7])
def test_a_row_outside_the_tensor_is_named(tmp_path: Path, row: int) -> None:
    save_file(found := tensors(), tmp_path / "model.safetensors")
    message = refusal(tmp_path, want(found) | {"head": Wanted((7, 5), rows=(0, row))})
    assert f"model.safetensors: 'head': expected a row {row}, found 7 rows" in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: data[:40],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: struct.pack("<Q", 1 << 40) + data[8:],
        lambda data: struct.pack("<Q", 0) + data[8:],
        lambda data: data[:8] + b"\xff" + data[9:],
        lambda data: data.replace(b'"F32"', b'"F33"', 1),
        lambda data: data.replace(b"[7,5]", b"[7,6]", 1),
        lambda data: b"PK\x03\x04" + data,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    found = tensors()
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(save(found)))
    assert f"{file}: damaged, truncated or not safetensors: " in refusal(tmp_path, want(found))


def test_a_damaged_shard_stops_before_any_tensor_is_read(tmp_path: Path) -> None:
    found, calls = write_sharded(tmp_path), list[tuple[int, int]]()
    (tmp_path / SECOND).write_bytes((tmp_path / SECOND).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=SECOND):
        load_weights(tmp_path, want(found), dtype=torch.float32, device=CPU, progress=lambda *call: calls.append(call))
    assert calls == []


def test_a_shard_that_is_replaced_during_the_load_is_named(tmp_path: Path) -> None:
    found = write_sharded(tmp_path)

    def replace(done: int, total: int) -> None:
        save_file({"scale": torch.ones(3), "tower.patch": torch.ones(2)}, tmp_path / SECOND)

    with pytest.raises(CheckpointError, match=f"{SECOND}: changed while it was being loaded: 'scale'"):
        load_weights(tmp_path, want(found), dtype=torch.float32, device=CPU, progress=replace)


@pytest.mark.parametrize("rows", [None, (0, 1)])
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_number_that_is_not_finite_is_named_also_in_rows_not_kept(
    tmp_path: Path, rows: tuple[int, ...] | None, value: float, dtype: torch.dtype
) -> None:
    found = tensors()
    found["head"][5, 3] = value
    save_file(found, tmp_path / "model.safetensors")
    message = refusal(tmp_path, want(found) | {"head": Wanted((7, 5), rows)}, dtype)
    assert "model.safetensors: 'head': expected numbers finite in " in message
    assert message.endswith(f"found {value:g} at [5, 3]")


@pytest.mark.parametrize(
    ("stored", "value", "dtype"),
    [
        (torch.float64, 1e39, torch.float32),
        (torch.float32, -1e5, torch.float16),
        (torch.bfloat16, 1e38, torch.float16),
        (torch.float32, torch.finfo(torch.float32).max, torch.bfloat16),
    ],
)
def test_a_number_that_overflows_the_target_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: torch.dtype, value: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(weights, "_BLOCK", 6)
    head = torch.zeros(7, 5, dtype=stored)
    head[4, 1] = value
    save_file({"head": head}, tmp_path / "model.safetensors")
    name = str(dtype).removeprefix("torch.")
    message = refusal(tmp_path, {"head": Wanted((7, 5))}, dtype)
    assert f"model.safetensors: 'head': expected numbers finite in {name}, found {head[4, 1]:g} at [4, 1]" in message


def test_a_shape_too_large_for_its_bytes_is_refused(tmp_path: Path) -> None:
    header = {"head": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}}
    write_raw(tmp_path / "model.safetensors", header, bytes(16))
    assert "model.safetensors: damaged" in refusal(tmp_path, {"head": Wanted((1 << 62, 4))})


def test_a_line_break_in_a_name_does_not_break_the_message(tmp_path: Path) -> None:
    save_file({"evil\nname": torch.ones(1)}, tmp_path / "model.safetensors")
    assert r"'evil\nname'" in refusal(tmp_path, {})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_file_with_any_damage_loads_or_is_refused(scratch: Path, data: st.DataObject) -> None:
    found = tensors()
    content = bytearray(save(found))
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for position in data.draw(st.lists(st.integers(0, header - 1), max_size=3), label="flips"):
        content[position] = data.draw(st.integers(0, 255), label="byte")
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))), label="end")
    (scratch / "model.safetensors").write_bytes(content[:end])
    result = outcome(scratch, want(found))
    assert result.startswith(("loaded", f"{scratch}/model.safetensors: "))
    assert "\n" not in result


def outcome(directory: Path, wanted: dict[str, Wanted]) -> str:
    try:
        return f"loaded {len(load(directory, wanted))}"
    except CheckpointError as error:
        return str(error)
