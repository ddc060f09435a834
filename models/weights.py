"""A checkpoint's safetensors, verified by header, then streamed tensor by tensor into memory of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePath

import torch
from safetensors import SafetensorError, safe_open

from models.checkpoint import CheckpointError, read_json

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Elements that are cast and checked at once: all the memory that loading needs beside the weights.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a network needs of one tensor: its whole shape, and the rows of it to keep where not all."""

    shape: tuple[int, ...]
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as its file's header describes it; `dtype` is safetensors' name, such as BF16."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * _ELEMENT_BYTES[self.dtype]


def is_stale_buffer(name: str) -> bool:
    """Positions and rotary frequencies, which older exporters wrote out and every network recomputes."""
    return name.endswith((".position_ids", ".inv_freq")) or "rotary_emb." in name


def load_weights(
    directory: Path,
    wanted: Mapping[str, Wanted],
    *,
    dtype: torch.dtype,
    device: torch.device,
    ignored: Callable[[str], bool] = is_stale_buffer,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, torch.Tensor]:
    """Load exactly the tensors of `wanted`, cast to `dtype` on `device`, each in memory of its own.

    Files are mapped, and everything that headers can tell is verified before a tensor is read. Beside the
    weights this needs one block of `_BLOCK` elements. `progress(bytes_done, bytes_total)` counts bytes of the
    files. Raises CheckpointError, also for a number that is not finite in `dtype`, in a kept row or not.
    """
    stored = stored_tensors(directory, ignored)
    _check_wanted(stored, wanted, _source(directory))
    done, total = 0, sum(tensor.nbytes for tensor in stored.values())
    loaded = {}
    for name, view in _views(stored):
        where = f"{stored[name].file}: {name!r}"
        loaded[name] = _take(view, wanted[name].rows, dtype, device, where)
        done += view.nbytes
        if progress is not None:
            progress(done, total)
    return loaded


def stored_tensors(directory: Path, ignored: Callable[[str], bool] = is_stale_buffer) -> dict[str, Stored]:
    """Name → tensor over all shards, in the order of the files, from headers alone.

    Raises CheckpointError for a file that is missing or damaged and for an index that the shards contradict.
    """
    source = _source(directory)
    if source.name != _INDEX:
        return {name: tensor for name, tensor in _read_header(source).items() if not ignored(name)}
    placed = {name: file for name, file in _read_index(source).items() if not ignored(name)}
    stored: dict[str, Stored] = {}
    for file in sorted(set(placed.values())):
        for name, tensor in _read_header(directory / file).items():
            if not ignored(name) and placed.get(name) != file:
                place = f"in {placed[name]!r}" if name in placed else "nowhere"
                raise CheckpointError(f"{tensor.file}: holds {name!r}, which {_INDEX} places {place}")
            if not ignored(name):
                stored[name] = tensor
    for name, file in placed.items():
        if name not in stored:
            raise CheckpointError(f"{directory / file}: {name!r} is missing, though {_INDEX} places it here")
    return stored


def _source(directory: Path) -> Path:
    """The file that lists the tensors: the index where there is one, else the only safetensors file."""
    for name in (_INDEX, _SINGLE):
        if (directory / name).is_file():
            return directory / name
    files = sorted(directory.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        raise CheckpointError(f"{directory}: {len(files)} safetensors files but no {_INDEX} that joins them")
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        refusal = "a PyTorch pickle can run code and is never opened"
        raise CheckpointError(f"{directory}: expected safetensors, found {pickles[0]}: {refusal}")
    raise CheckpointError(f"{directory}: {_SINGLE} is missing, and so is {_INDEX}")


def _read_index(index: Path) -> dict[str, str]:
    """Tensor name → file name, each a bare name of a safetensors file that exists."""
    weight_map = read_json(index).section("weight_map")
    placed: dict[str, str] = {}
    for name, file in weight_map.values.items():
        if not isinstance(file, str) or not _is_bare_shard_name(file):
            raise weight_map.error(repr(name), "a .safetensors file of the same folder", file)
        placed[name] = file
    files = sorted(set(placed.values()))
    if missing := [file for file in files if not (index.parent / file).is_file()]:
        raise CheckpointError(f"{index}: {len(missing)} of {len(files)} shards missing: {_first(missing)}")
    if _SINGLE not in files and (index.parent / _SINGLE).is_file():
        raise CheckpointError(f"{index}: {_SINGLE} lies beside it, not listed; remove one of the two")
    return placed


def _is_bare_shard_name(file: str) -> bool:
    return file == PurePath(file).name and "\\" not in file and file.endswith(".safetensors")


def _read_header(file: Path) -> dict[str, Stored]:
    """Name → tensor in the order of their bytes."""
    try:
        with safe_open(file, framework="pt") as shard:
            parts = [(name, shard.get_slice(name)) for name in shard.offset_keys()]
            return {name: Stored(file, tuple(part.get_shape()), part.get_dtype()) for name, part in parts}
    except (OSError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file}: damaged, truncated or not safetensors: {reason}") from error


def _check_wanted(stored: Mapping[str, Stored], wanted: Mapping[str, Wanted], source: Path) -> None:
    if missing := [name for name in wanted if name not in stored]:
        raise CheckpointError(f"{source}: {len(missing)} of {len(wanted)} tensors missing: {_first(missing)}")
    if extra := [name for name in stored if name not in wanted]:
        where = stored[extra[0]].file
        raise CheckpointError(f"{where}: {len(extra)} tensors not part of this model: {_first(extra)}")
    for name, tensor in stored.items():
        _check_tensor(f"{tensor.file}: {name!r}", tensor, wanted[name])


def _check_tensor(where: str, stored: Stored, wanted: Wanted) -> None:
    if stored.shape != wanted.shape:
        raise CheckpointError(f"{where}: expected shape {list(wanted.shape)}, found {list(stored.shape)}")
    if stored.dtype not in _ELEMENT_BYTES:
        raise CheckpointError(f"{where}: expected {', '.join(_ELEMENT_BYTES)}, found {stored.dtype}")
    for row in wanted.rows or ():
        if not 0 <= row < wanted.shape[0]:
            raise CheckpointError(f"{where}: expected a row {row}, found {wanted.shape[0]} rows")


def _views(stored: Mapping[str, Stored]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor as a view of its mapped file; a shard is unmapped once its last view is gone."""
    for file in dict.fromkeys(tensor.file for tensor in stored.values()):
        expected = {name: tensor for name, tensor in stored.items() if tensor.file == file}
        # A trainer may be replacing the checkpoint at this moment.
        if not expected.items() <= _read_header(file).items():
            raise CheckpointError(f"{file}: changed while it was being loaded: {_first(list(expected))}")
        with safe_open(file, framework="pt") as shard:
            for name in expected:
                yield name, shard.get_tensor(name)


def _take(
    source: torch.Tensor, rows: tuple[int, ...] | None, dtype: torch.dtype, device: torch.device, where: str
) -> torch.Tensor:
    """A copy of `source` or of its `rows`; every element is checked as it is in `dtype`, kept or not."""
    size = source.shape if rows is None else (min(_BLOCK, source.numel()),)
    target = torch.empty(size, dtype=dtype, device=device)
    elements, places = source.reshape(-1), target.view(-1)
    for start in range(0, source.numel(), _BLOCK):
        block = elements[start : start + _BLOCK]
        place = start if rows is None else 0
        cast = places[place : place + len(block)].copy_(block)
        # The extremes carry every nan and inf along, and need no temporary as large as the block.
        if not torch.stack(torch.aminmax(cast)).isfinite().all():
            raise CheckpointError(f"{where}: {_not_finite(source, start, cast)}")
    return target if rows is None else source[list(rows)].to(device, dtype)


def _not_finite(source: torch.Tensor, start: int, cast: torch.Tensor) -> str:
    first = start + int(cast.isfinite().logical_not().nonzero()[0])
    element = [int(axis) for axis in torch.unravel_index(torch.tensor(first), source.shape)]
    name = str(cast.dtype).removeprefix("torch.")
    return f"expected numbers finite in {name}, found {source[tuple(element)].item():g} at {element}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (" …" if len(names) > 3 else "")
