"""Which rows attend to which keys, in blocks that a matrix product is worth. Torch-free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.encoded import common_prefix
from models.token_tree import Keys, Rows, TokenTree

# A block of scores stays near the processor's caches, and has rows enough for a matrix product. Where the scores do not
# stand in memory, only a mask does.
_SCORES, _FUSED_SCORES, _FEWEST_ROWS, _MOST_ROWS = 1 << 20, 1 << 25, 16, 512
# What another block costs, in rows: gathering its keys, and products of few rows.
_BLOCK_COST = 48
# How many times fewer keys a tile that siblings share has to load.
_SAVING = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Query rows from `first` to `last` and the keys that any of them sees: slots as -1 - slot, and packed rows.

    All see the leading keys; `visible` (rows, tail) says who sees which of the last `tail` ones.
    """

    first: int
    last: int
    keys: Keys
    visible: npt.NDArray[np.bool_]

    @property
    def tail(self) -> int:
        return int(self.visible.shape[1])


def plan_blocks(
    tree: TokenTree, queries_per_key: int, *, merge: bool = True, fused: bool = False, tile_rows: int | None = None
) -> list[Block]:
    """Blocks of all the tree's rows, in order. Siblings of few rows share a block where that saves work.

    Without `merge` a block's keys are one path's, in the order of its positions, and no other path changes them.
    `fused` is attention that keeps no scores, whose blocks may be larger where many keys are seen.
    `tile_rows` are for a device that takes a block in tiles of so many rows, each with the keys that it sees: blocks
    are whole tiles where a node has them, and siblings share one tile.
    """
    blocks: list[Block] = []
    gathering: _Gathering | None = None
    scores = _FUSED_SCORES if fused else _SCORES
    for part in _parts(tree, scores // queries_per_key, tile_rows):
        joined = gathering.joined(part) if gathering and merge else None
        if gathering and (joined is None or not joined.is_worth_it(gathering, part, tile_rows)):
            blocks.append(gathering.block())
            joined = None
        gathering = joined or _Gathering([part], len(part.seen), len(part.seen))
    return [*blocks, gathering.block()] if gathering else blocks


def select_queries(blocks: Sequence[Block], rows: Rows) -> list[Block]:
    """The same for some of the rows alone, ascending: `first` and `last` count in `rows`."""
    selected = []
    for block in blocks:
        start, stop = np.searchsorted(rows, (block.first, block.last)).tolist()
        if start < stop:
            visible = block.visible[rows[start:stop] - block.first]
            selected.append(Block(start, stop, block.keys, visible))
    return selected


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Consecutive rows of one node, and what they all see before the first of them."""

    first: int
    last: int
    seen: Keys


def _parts(tree: TokenTree, scores: int, tile_rows: int | None) -> Iterator[_Part]:
    for index, node in enumerate(tree.nodes):
        context = tree.context(index)
        first = node.row
        while first < node.rows.stop:
            seen = np.concatenate([context, np.arange(node.row, first)])
            last = min(first + _most_rows(len(seen), scores, tile_rows), node.rows.stop)
            yield _Part(first, last, seen)
            first = last


def _most_rows(seen: int, scores: int, tile_rows: int | None) -> int:
    if tile_rows is not None:
        return max(_MOST_ROWS // tile_rows, 1) * tile_rows
    return min(max(scores // (seen + _MOST_ROWS), _FEWEST_ROWS), _MOST_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class _Gathering:
    """Parts for one block: they see `shared` leading keys alike, and `seen` counting each part's own."""

    parts: list[_Part]
    shared: int
    seen: int

    @property
    def rows(self) -> int:
        return self.parts[-1].last - self.parts[0].first

    @property
    def keys(self) -> int:
        return self.seen - (len(self.parts) - 1) * self.shared + self.rows

    @property
    def cost(self) -> int:
        """Scores to compute, with a block's own cost."""
        return (self.rows + _BLOCK_COST) * self.keys

    def joined(self, part: _Part) -> "_Gathering":
        shared = common_prefix([self.parts[0].seen[: self.shared], part.seen])
        return _Gathering([*self.parts, part], shared, self.seen + len(part.seen))

    def is_worth_it(self, before: "_Gathering", part: _Part, tile_rows: int | None) -> bool:
        """Whether one block costs no more than the one before and another for the part."""
        alone = _Gathering([part], len(part.seen), len(part.seen))
        if tile_rows is not None:
            # A tile takes as long for one row as for all, and two at a time take no longer than one.
            return self.rows <= tile_rows and _SAVING * self.keys <= before.keys + alone.keys
        return self.rows <= _MOST_ROWS and self.cost <= before.cost + alone.cost

    def block(self) -> Block:
        first, last = self.parts[0].first, self.parts[-1].last
        rows = np.arange(first, last)
        own = np.setdiff1d(np.concatenate([part.seen[self.shared :] for part in self.parts]), rows)
        tail = np.concatenate([own, rows])
        visible = np.zeros((last - first, len(tail)), np.bool_)
        for part in self.parts:
            start, stop = part.first - first, part.last - first
            if len(part.seen) > self.shared:
                visible[start:stop] = np.isin(tail, part.seen[self.shared :])
            visible[start:stop, len(own) + start : len(own) + stop] = np.tri(stop - start, dtype=np.bool_)
        return Block(first, last, np.concatenate([self.parts[0].seen[: self.shared], tail]), visible)
