"""The tokens that a batch has to compute, each once: a forest of runs, packed depth first. Torch-free.

A token is named by a key, and equal keys after equal keys are the same token: text by its id, a row of a picture by a
negative number that no other picture has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.encoded import common_prefix

Keys = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]

_NONE: Keys = np.empty(0, np.int64)
# Rows of one picture; the key of a row counts pictures in steps of it.
_PICTURE_ROWS = 1 << 24


def picture_keys(number: int, rows: int) -> Keys:
    """The keys of a picture's rows; `number` ≥ 0 is the picture's own."""
    return -1 - (number * _PICTURE_ROWS + np.arange(rows, dtype=np.int64))


def picture_rows(keys: Keys) -> tuple[Keys, Keys]:
    """Of negative keys: the pictures' numbers, and the rows in them."""
    number, row = np.divmod(-1 - keys, _PICTURE_ROWS)
    return number, row


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One sequence, and what is known of it.

    `keys` (tokens,); `readouts` the positions that are read; `slots` those of its leading tokens whose keys
    and values are held; `known` the held positions whose read-out is known. A path that is `alone` shares nothing.
    """

    keys: Keys
    readouts: npt.NDArray[np.int32]
    slots: Keys = field(default_factory=lambda: _NONE)
    known: frozenset[int] = frozenset()
    alone: bool = False

    @property
    def needed(self) -> int:
        """How many of its tokens bear on a read-out."""
        return int(self.readouts.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A run of tokens to compute, at the positions from `start` on, in the packed rows from `row` on.

    `path` is the first path that runs through it. Before it lie `held` slots of that path, then its ancestors' rows.
    A node that is `again` has keys and values already, and is computed for its read-out alone.
    """

    path: int
    start: int
    length: int
    row: int
    held: int
    parent: int | None
    again: bool = False

    @property
    def rows(self) -> range:
        return range(self.row, self.row + self.length)


@dataclass(frozen=True, slots=True, eq=False)
class TokenTree:
    """Nodes in depth-first order, so that a subtree's rows are one range, and each row's key and position.

    `rows[i]` are the rows of path i's tokens that are not held, `readouts[i]` those of its read-outs, -1 where the
    read-out is known.
    """

    paths: tuple[Path, ...]
    nodes: tuple[Node, ...]
    keys: Keys
    positions: npt.NDArray[np.int64]
    rows: tuple[Rows, ...]
    readouts: tuple[Rows, ...]

    @property
    def computed(self) -> list[int]:
        """For each path, how many rows it is the first to need."""
        counts = [0] * len(self.paths)
        for node in self.nodes:
            counts[node.path] += node.length
        return counts

    def context(self, index: int) -> Keys:
        """What a node's rows see before its own: slots as -1 - slot, then rows."""
        node = self.nodes[index]
        runs = []
        parent = node.parent
        while parent is not None:
            above = self.nodes[parent]
            runs.append(np.arange(above.row, above.row + above.length))
            parent = above.parent
        return np.concatenate([-1 - self.paths[node.path].slots[: node.held], *reversed(runs)])


def build_tree(paths: Sequence[Path]) -> TokenTree:
    """The forest of all tokens that the read-outs need and that are not held."""
    grown = _Growth(paths)
    for roots in _by_start(paths).values():
        grown.grow(roots)
    for index in range(len(paths)):
        grown.read_again(index)
    return grown.tree()


def _by_start(paths: Sequence[Path]) -> Mapping[tuple[int, int], list[int]]:
    """Paths that have tokens to compute, by the last held token before them: its slot names all that precedes it."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, path in enumerate(paths):
        held = len(path.slots)
        if held < path.needed:
            start = (-2 - index, 0) if path.alone else (held, int(path.slots[-1]) if held else -1)
            groups.setdefault(start, []).append(index)
    return groups


class _Growth:
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._nodes: list[Node] = []
        self._rows = 0
        self._runs: list[list[Rows]] = [[_NONE] for _ in paths]
        self._again: dict[tuple[int, int], int] = {}

    def grow(self, roots: list[int]) -> None:
        """All the nodes of paths that have their held tokens in common."""
        held = len(self._paths[roots[0]].slots)
        # Depth first, without recursion: a tree may be as deep as a beam search has steps.
        waiting: list[tuple[int | None, int, list[int]]]
        waiting = [(None, held, group) for group in reversed(self._part(roots, held))]
        while waiting:
            parent, start, group = waiting.pop()
            stop = self._common(group, start)
            index, rows = len(self._nodes), np.arange(self._rows, self._rows + stop - start)
            self._add(Node(group[0], start, stop - start, self._rows, held, parent))
            for path in group:
                self._runs[path].append(rows)
            waiting += [(index, stop, part) for part in reversed(self._part(group, stop))]

    def read_again(self, index: int) -> None:
        """A held token whose read-out is not known is one row more, which sees the slots before it."""
        path = self._paths[index]
        for position in _unknown(path):
            token = (position, int(path.slots[position]))
            if token not in self._again:
                self._again[token] = self._rows
                self._add(Node(index, position, 1, self._rows, position, None, again=True))

    def tree(self) -> TokenTree:
        runs = [self._paths[node.path].keys[node.start : node.start + node.length] for node in self._nodes]
        positions = [np.arange(node.start, node.start + node.length) for node in self._nodes]
        rows = tuple(np.concatenate(runs) for runs in self._runs)
        return TokenTree(
            paths=tuple(self._paths),
            nodes=tuple(self._nodes),
            keys=np.concatenate([_NONE, *runs]),
            positions=np.concatenate([_NONE, *positions]),
            rows=rows,
            readouts=tuple(self._read(path, own) for path, own in zip(self._paths, rows, strict=True)),
        )

    def _add(self, node: Node) -> None:
        self._nodes.append(node)
        self._rows += node.length

    def _part(self, group: Sequence[int], start: int) -> list[list[int]]:
        """Those that go on at `start`, by their next key."""
        parts: dict[int, list[int]] = {}
        for index in group:
            path = self._paths[index]
            if start < path.needed:
                parts.setdefault(int(path.keys[start]), []).append(index)
        return list(parts.values())

    def _common(self, group: Sequence[int], start: int) -> int:
        """Up to which position all of them are alike and go on."""
        paths = [self._paths[index] for index in group]
        return start + common_prefix([path.keys[start : path.needed] for path in paths])

    def _read(self, path: Path, rows: Rows) -> Rows:
        read = np.full(len(path.readouts), -1, np.int64)
        new = path.readouts >= len(path.slots)
        read[new] = rows[path.readouts[new] - len(path.slots)]
        for position in _unknown(path):
            read[path.readouts == position] = self._again[position, int(path.slots[position])]
        return read


def _unknown(path: Path) -> list[int]:
    """The read-outs of held tokens that are not known."""
    held = path.readouts[path.readouts < len(path.slots)].tolist()
    return [position for position in held if position not in path.known]
