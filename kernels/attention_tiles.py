"""Blocks of attention cut into tiles of query rows, each with the keys that its rows see, for one launch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

# Keys that a tile takes at once, and the bits of a word that says which of them a row sees.
SPAN = 64

# Query rows and heads that a tile may fold: few for read-outs, most where so many tiles still fill a device.
FOLDED = _FEWEST, _SOME, _MOST = 16, 64, 128
_MANY = 64 * _MOST
# One tile's numbers, in the order in which the kernel reads them.
_FIRST, _ROWS, _START, _COUNT, _WHOLE, _WORDS = range(6)
FIELDS = 6


class Block(Protocol):
    """Query rows from `first` to `last` and the keys that any of them sees: slots as -1 - slot, and new rows.

    All see the leading keys; `visible` (rows, tail) says who sees which of the last `tail` ones.
    """

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def keys(self) -> npt.NDArray[np.int64]: ...
    @property
    def visible(self) -> npt.NDArray[np.bool_]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Rows from `first` to `last` in tiles of `folded` query rows and heads, the longest first; all on a device.

    `table` (tiles, 6) int32: a tile's first row and its rows, its first key in `keys` and its keys, how many of them
    are in whole spans that all its rows see, its first word in `words`.
    `keys` int32: slots as -1 - slot, and new rows; tiles may share them.
    `words` int64: for each span behind the whole ones and each row, a bit for each key that the row sees.
    """

    first: int
    last: int
    folded: int
    table: torch.Tensor
    keys: torch.Tensor
    words: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """`own` keys where the block's are not its first `count` ones; `bits` (rows, keys behind the whole spans)."""

    first: int
    count: int
    whole: int
    own: npt.NDArray[np.int64] | None
    bits: npt.NDArray[np.bool_]


def most_rows(queries_per_key: int) -> int:
    """How many rows one tile holds at most."""
    return max(_MOST // queries_per_key, 1)


def folded_rows(blocks: Sequence[Block], queries_per_key: int, *, invariant: bool) -> int:
    """How many query rows and heads a tile folds; always the same where a row's bits must not depend on others."""
    least = max(_FEWEST, 1 << (queries_per_key - 1).bit_length())
    if invariant:
        return max(_SOME, least)
    rows = [(block.last - block.first) * queries_per_key for block in blocks]
    if max(rows, default=0) <= _FEWEST:
        return least
    return max(_MOST if sum(rows) >= _MANY else _SOME, least)


def cut_tiles(blocks: Sequence[Block], folded: int, queries_per_key: int, device: torch.device) -> Tiles:
    """Tiles of as many rows as have `folded` query heads of one key-value head; blocks follow one another."""
    table: list[tuple[int, ...]] = []
    keys: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    words: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    key_count = word_count = 0
    for block in blocks:
        shared = key_count
        keys.append(block.keys)
        key_count += len(block.keys)
        for tile in _cut(block, folded // queries_per_key):
            start = shared
            if tile.own is not None:
                start = key_count
                keys.append(tile.own)
                key_count += len(tile.own)
            packed = _pack(tile.bits)
            table.append((tile.first, len(tile.bits), start, tile.count, tile.whole, word_count))
            words.append(packed)
            word_count += len(packed)
    ordered = np.array(table, np.int64).reshape(-1, FIELDS)
    ordered = ordered[np.argsort(-ordered[:, _COUNT], kind="stable")]
    assert max(key_count, word_count, ordered.max(initial=0)) < 1 << 31
    return Tiles(
        blocks[0].first if blocks else 0,
        blocks[-1].last if blocks else 0,
        folded,
        torch.from_numpy(ordered.astype(np.int32)).to(device),
        torch.from_numpy(np.concatenate(keys).astype(np.int32)).to(device),
        torch.from_numpy(np.concatenate(words)).to(device),
    )


def _cut(block: Block, rows: int) -> Iterator[_Tile]:
    before = len(block.keys) - block.visible.shape[1]
    for first in range(block.first, block.last, rows):
        visible = block.visible[first - block.first : first - block.first + rows]
        used = np.flatnonzero(visible.any(0))
        own = None
        if len(used) and used[-1] >= len(used):
            own = np.concatenate([block.keys[:before], block.keys[before:][used]])
        visible = visible[:, used]
        count = before + len(used)
        seen_by_all = int(visible.all(0).argmin()) if not visible.all() else len(used)
        whole = (before + seen_by_all) // SPAN * SPAN
        bits = np.ones((len(visible), count - whole), np.bool_)
        behind = max(whole - before, 0)
        bits[:, before + behind - whole :] = visible[:, behind:]
        yield _Tile(first, count, whole, own, bits)


def _pack(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(rows, keys) → (spans · rows,): one word for each span and row, its lowest bit the span's first key."""
    rows, count = bits.shape
    padded = np.zeros((rows, -(-count // SPAN) * SPAN), np.bool_)
    padded[:, :count] = bits
    words: npt.NDArray[np.int64] = np.packbits(padded, axis=1, bitorder="little").view("<i8").astype(np.int64)
    return words.T.ravel()
