"""Which tokens of several sequences are computed together: what they share once, then each one's own. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.encoded import common_prefix
from models.tokenizer import Ids

# A forward of fewer tokens costs what it saves: it reads every weight once more.
WORTH = 16


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens [start, stop) of the sequence `of`, behind those of the run `parent`, or behind none.

    The sequences `ends` end with it. A run's place in a plan is behind its parent's, and before the parent's next.
    """

    of: int
    start: int
    stop: int
    parent: int | None
    ends: tuple[int, ...]


def apart(sequences: Sequence[Ids]) -> list[Run]:
    """Each sequence in a run of its own, equal ones in one."""
    return [Run(ends[0], 0, len(sequences[ends[0]]), None, ends) for ends in _distinct(sequences)]


def share(sequences: Sequence[Ids], worth: int = WORTH) -> list[Run]:
    """A run for every prefix that several sequences have in common, where it is `worth` a forward.

    Sequences have a token or more each.
    """
    # In order of their tokens, those with a common prefix are neighbours, and the first and last tell its length.
    ordered = sorted(_distinct(sequences), key=lambda ends: sequences[ends[0]].tolist())
    heads = [sequences[ends[0]] for ends in ordered]
    runs: list[Run] = []
    # Ranges of `ordered`, the tokens before them that are computed, and by which run.
    waiting: list[tuple[int, int, int, int | None]] = [
        (first, last, 0, None) for first, last in reversed(_parted(heads, 0, len(heads), 0))
    ]
    while waiting:
        first, last, start, parent = waiting.pop()
        stop = common_prefix([heads[first], heads[last - 1]])
        ends = ordered[first] if len(heads[first]) == stop else ()
        if ends or stop - start >= worth:
            runs.append(Run(min(m for one in ordered[first:last] for m in one), start, stop, parent, ends))
            start, parent = stop, len(runs) - 1
        parts = _parted(heads, first + bool(ends), last, stop)
        waiting += [(*part, start, parent) for part in reversed(parts)]
    return runs


def computed(runs: Sequence[Run], sequences: int) -> list[int]:
    """The tokens that each of so many sequences is the first to need."""
    tokens = [0] * sequences
    for run in runs:
        tokens[run.of] += run.stop - run.start
    return tokens


def _distinct(sequences: Sequence[Ids]) -> list[tuple[int, ...]]:
    places: dict[bytes, list[int]] = {}
    for index, sequence in enumerate(sequences):
        places.setdefault(sequence.tobytes(), []).append(index)
    return [tuple(equal) for equal in places.values()]


def _parted(heads: Sequence[Ids], first: int, last: int, depth: int) -> list[tuple[int, int]]:
    """Ranges of those that go on with the same token."""
    tokens = np.array([head[depth] for head in heads[first:last]])
    if not len(tokens):
        return []
    edges = [first, *(np.flatnonzero(tokens[1:] != tokens[:-1]) + first + 1).tolist(), last]
    return list(pairwise(edges))
