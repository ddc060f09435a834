"""Random paths for a token tree, with what of them is held, and the tokens that they stand for one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from models.token_tree import Path, TokenTree

# A token by all keys up to its own; a path that shares nothing has its own tokens, named by its index.
Token = tuple[int, tuple[int, ...]]
SHARED = -1


@dataclass(frozen=True, slots=True)
class Shape:
    """How many keys of an alphabet of two a sequence has, and how often each stands in a row."""

    most_keys: int = 7
    most_repeats: int = 1


@st.composite
def sequences(draw: st.DrawFn, shape: Shape) -> tuple[int, ...]:
    keys = draw(st.lists(st.sampled_from([5, -1]), max_size=shape.most_keys))
    repeats = [draw(st.integers(1, shape.most_repeats)) for _ in keys]
    return tuple(key for key, count in zip(keys, repeats, strict=True) for _ in range(count))


@st.composite
def paths(draw: st.DrawFn, shape: Shape = Shape()) -> list[Path]:
    """What is held is a set of prefixes; each path holds as many of its leading tokens as are in it."""
    keys = draw(st.lists(sequences(shape), max_size=6))
    held: set[tuple[int, ...]] = set()
    for one in draw(st.lists(st.sampled_from(keys), max_size=3)) if keys else []:
        held |= {one[:end] for end in range(1, draw(st.integers(0, len(one))) + 1)}
    # Neither ascending nor in a row.
    slots = {prefix: 3 * slot for slot, prefix in enumerate(draw(st.permutations(sorted(held))))}
    return [draw(_path(one, slots)) for one in keys]


@st.composite
def _path(draw: st.DrawFn, keys: tuple[int, ...], slots: dict[tuple[int, ...], int]) -> Path:
    readouts = draw(st.lists(st.integers(0, len(keys) - 1), max_size=4)) if keys else []
    known = draw(st.frozensets(st.integers(0, max(len(keys) - 1, 0)), max_size=4))
    alone = draw(st.sampled_from([False, False, False, True]))
    own: list[int] = []
    while not alone and len(own) < len(keys) and keys[: len(own) + 1] in slots:
        own.append(slots[keys[: len(own) + 1]])
    return Path(
        np.array(keys, np.int64),
        np.array(readouts, np.int32),
        np.array(own, np.int64),
        frozenset(position for position in known if position < len(own)),
        alone,
    )


def tokens_of(paths: Sequence[Path], index: int) -> list[Token]:
    path = paths[index]
    keys = tuple(path.keys.tolist())
    return [(index if path.alone else SHARED, keys[: end + 1]) for end in range(len(keys))]


def read_again(path: Path) -> set[int]:
    """The held positions whose read-out is wanted and not known."""
    return {at for at in path.readouts.tolist() if at < len(path.slots) and at not in path.known}


def seen_by(tree: TokenTree, index: int) -> list[int]:
    """A path's tokens as keys of a block: slots as -1 - slot, then rows."""
    return [*(-1 - tree.paths[index].slots).tolist(), *tree.rows[index].tolist()]
