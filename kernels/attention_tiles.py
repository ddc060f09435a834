"""Blocks of attention cut into tiles of query rows, each with the keys that its rows see, for one launch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

# Keys that a tile takes at once, and the bits of a word that says which of them a row sees.
SPAN = 64

# Query rows and heads that a tile may fold: few for read-outs, most where so many tiles still fill a device.
FOLDED = (16, 32, 64, 128)
_SOME, _MOST = 64, 128
_MANY = 64 * _MOST
# A tile's numbers, and which of them is that of its keys.
FIELDS, _COUNT = 7, 3


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
    """Rows from `first` to `last` in tiles of `folded` query rows and heads, those of most keys first; on a device.

    `table` (tiles, 7) int32: a tile's first row, how many; its first key in `keys`, how many, and how many of them are
    whole spans that all its rows see; its first word in `words`, and how many words on the next span's begin.
    `keys` int32: slots as -1 - slot, and new rows. Tiles of a block share them.
    `words` int64: for each span behind a block's whole ones and each row, a bit for each key that the row sees.
    """

    first: int
    last: int
    folded: int
    table: torch.Tensor
    keys: torch.Tensor
    words: torch.Tensor


def most_rows(queries_per_key: int) -> int:
    """How many rows one tile holds at most."""
    return max(_MOST // queries_per_key, 1)


def most_folded(dtype: torch.dtype) -> int:
    """How many query rows and heads a tile folds at most: float32 products are short of registers."""
    return _SOME // 2 if dtype == torch.float32 else _MOST


def folded_rows(blocks: Sequence[Block], queries_per_key: int, dtype: torch.dtype, *, invariant: bool) -> int:
    """How many query rows and heads a tile folds; always the same where a row's bits must not depend on others."""
    rows = [(block.last - block.first) * queries_per_key for block in blocks]
    most = min(_MOST if sum(rows) >= _MANY and not invariant else _SOME, most_folded(dtype))
    wanted = most if invariant else min(max(rows, default=0), most)
    return max(next(folded for folded in FOLDED if folded >= wanted), 1 << (queries_per_key - 1).bit_length())


def cut_tiles(blocks: Sequence[Block], folded: int, queries_per_key: int, device: torch.device) -> Tiles:
    """Tiles of as many rows as have `folded` query heads of one key-value head; blocks follow one another."""
    tables = [np.empty((0, FIELDS), np.int64)]
    keys: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    words: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    key_count = word_count = 0
    for block in blocks:
        packed = _pack(block)
        tables.append(_cut(block, folded // queries_per_key, key_count, word_count))
        keys.append(block.keys)
        words.append(packed)
        key_count, word_count = key_count + len(block.keys), word_count + len(packed)
    table = np.concatenate(tables)
    table = table[np.argsort(-table[:, _COUNT], kind="stable")]
    assert table.max(initial=0) < 1 << 31
    return Tiles(
        blocks[0].first if blocks else 0,
        blocks[-1].last if blocks else 0,
        folded,
        torch.from_numpy(table.astype(np.int32)).to(device),
        torch.from_numpy(np.concatenate(keys).astype(np.int32)).to(device),
        torch.from_numpy(np.concatenate(words)).to(device),
    )


def _cut(block: Block, rows: int, first_key: int, first_word: int) -> npt.NDArray[np.int64]:
    """A block's tiles, (tiles, 7)."""
    count, tail = block.visible.shape
    before = len(block.keys) - tail
    starts = np.arange(0, count, rows)
    last_seen = tail - block.visible[:, ::-1].argmax(1)
    all_seen = np.where(block.visible.all(1), tail, block.visible.argmin(1))
    table = np.empty((len(starts), FIELDS), np.int64)
    table[:, 0] = block.first + starts
    table[:, 1] = np.minimum(rows, count - starts)
    table[:, 2] = first_key
    table[:, _COUNT] = before + np.maximum.reduceat(last_seen, starts)
    table[:, 4] = (before + np.minimum.reduceat(all_seen, starts)) // SPAN * SPAN
    table[:, 5] = first_word + (table[:, 4] - before // SPAN * SPAN) // SPAN * count + starts
    table[:, 6] = count
    return table


def _pack(block: Block) -> npt.NDArray[np.int64]:
    """(spans · rows,): a word for each span that not all see and each row, its lowest bit the span's first key."""
    count, tail = block.visible.shape
    leading = (len(block.keys) - tail) % SPAN
    bits = np.zeros((count, -(-(leading + tail) // SPAN) * SPAN), np.bool_)
    bits[:, :leading] = True
    bits[:, leading : leading + tail] = block.visible
    words: npt.NDArray[np.int64] = np.packbits(bits, axis=1, bitorder="little").view("<i8").astype(np.int64)
    return words.T.ravel()
