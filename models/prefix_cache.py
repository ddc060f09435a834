"""A radix tree that says in which slots of a pool the leading tokens of a sequence are held. Torch-free."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count as ticks

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """The leading tokens of a sequence that are held: safe from eviction until the match is released, once.

    `slots` is (matched,) int64. `logits` has those (labels,) that are held, by the position of their token; they
    are views, not to be written to.
    """

    slots: Slots
    logits: Mapping[int, Logits]
    _last: "_Node"


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """In tokens: looked up, found and evicted since the start; held now; held at most."""

    looked_up: int
    hit: int
    evicted: int
    held: int
    capacity: int


class PrefixCache:
    """Where the tokens of sequences have their keys and values, in a pool of `capacity` slots that another owns.

    A sequence is its tokens' keys, (tokens,) int64; equal keys after equal keys are one token, and it has one slot.
    A slot is free, held by a token, or in the hands of a caller. One thread uses a cache: nothing here locks.
    """

    def __init__(self, capacity: int) -> None:
        assert 0 <= capacity <= np.iinfo(np.int32).max
        # A stack, of which the first `_free_count` are free; int32, so that a token costs 17 bytes beside its node.
        self._free = np.arange(capacity, dtype=np.int32)[::-1].copy()
        self._free_count = capacity
        self._in_hand = np.zeros(capacity, np.bool_)
        self._root = _Node(np.empty(0, np.int64), np.empty(0, np.int32), None, 0)
        # Every node that may be evicted has one entry, and its time is never later than the node's last use.
        self._leaves: list[tuple[int, _Node]] = []
        # A tick is given to one node only, so entries never compare by node.
        self._clock = ticks(1)
        self._looked_up = self._hit = self._evicted = self._held = 0

    @property
    def counts(self) -> CacheCounts:
        return CacheCounts(self._looked_up, self._hit, self._evicted, self._held, len(self._free))

    def match(self, keys: Keys) -> Match:
        """Find the longest held prefix of a sequence, mark it as used and keep it until the match is released."""
        path = self._descend(keys)
        logits: dict[int, Logits] = {}
        matched = 0
        for node in path:
            node.pins += 1
            logits |= zip((node.readouts.offsets + matched).tolist(), node.readouts.rows, strict=True)
            matched += len(node.keys)
        self._looked_up += len(keys)
        self._hit += matched
        return Match(_slots(path), logits, path[-1])

    def release(self, match: Match) -> None:
        """Let go of what a match kept."""
        node: _Node | None = match._last
        while node is not None:
            assert node.pins > 0
            node.pins -= 1
            self._offer(node)
            node = node.parent

    def allocate(self, count: int) -> Slots:
        """Hand out `count` slots, or as many as there are: (slots,) int64, the caller's until inserted or freed.

        What free slots do not cover is evicted: the least recently used token that no match keeps and none follows,
        and so on.
        """
        assert count >= 0
        self._evict(count)
        taken = min(count, self._free_count)
        self._free_count -= taken
        slots = self._free[self._free_count :][:taken][::-1].astype(np.int64)
        self._in_hand[slots] = True
        return slots

    def free(self, slots: Slots) -> None:
        """Take back slots that the caller was handed and did not insert."""
        assert self._in_hand[slots].all()
        self._in_hand[slots] = False
        self._push(slots)

    def insert(self, keys: Keys, slots: Slots, logits: Mapping[int, Logits]) -> None:
        """Hold a sequence, (tokens,), each token in its slot, (tokens,): of its match, and then the caller's.

        A token that is held already keeps its slot and its logits, and the slot given for it is freed where it is
        another one: once, if sequences inserted in a row, with no allocation between, share it. `logits` go by
        position, (labels,) each, of one length for the whole cache; they are copied, as are keys and slots.
        """
        assert len(keys) == len(slots)
        assert all(0 <= position < len(keys) for position in logits)
        path = self._descend(keys)
        held = _slots(path)
        surplus = slots[: len(held)][slots[: len(held)] != held]
        self.free(surplus[self._in_hand[surplus]])
        if len(held) < len(keys):
            path.append(self._grow(path[-1], keys[len(held) :], slots[len(held) :]))
        _set_logits(path, logits)

    def _descend(self, keys: Keys) -> list["_Node"]:
        """The nodes of the longest held prefix, from the root on, marked as used: the last one is split to end there.

        So all tokens of a node were last used together, and a pin keeps what was matched and not a token more.
        """
        node, matched = self._root, 0
        path = [node]
        while matched < len(keys) and (child := node.children.get(int(keys[matched]))):
            shared = _shared(child.keys, keys[matched:])
            node = child if shared == len(child.keys) else child.split(shared)
            node.last_used = next(self._clock)
            path.append(node)
            matched += shared
        return path

    def _grow(self, parent: "_Node", keys: Keys, slots: Slots) -> "_Node":
        assert self._in_hand[slots].all()
        self._in_hand[slots] = False
        leaf = _Node(keys.copy(), slots.astype(np.int32), parent, next(self._clock))
        parent.children[int(keys[0])] = leaf
        self._held += len(keys)
        self._offer(leaf)
        return leaf

    def _offer(self, node: "_Node") -> None:
        """Queue a node for eviction, if it may be evicted and is not queued."""
        if node.evictable and not node.queued:
            node.queued = True
            heappush(self._leaves, (node.last_used, node))

    def _evict(self, count: int) -> None:
        """Evict until `count` slots are free, or nothing more can be evicted."""
        while self._free_count < count and self._leaves:
            queued_at, leaf = self._leaves[0]
            if not leaf.evictable:
                heappop(self._leaves)
                leaf.queued = False
            elif leaf.last_used > queued_at:
                heapreplace(self._leaves, (leaf.last_used, leaf))
            else:
                self._shorten(leaf, max(0, len(leaf.keys) - (count - self._free_count)))

    def _shorten(self, leaf: "_Node", kept: int) -> None:
        """Evict all but the first `kept` tokens of the leaf that heads the queue."""
        evicted = leaf.slots[kept:]
        self._push(evicted)
        self._held -= len(evicted)
        self._evicted += len(evicted)
        if kept:
            leaf.cut(kept)
            return
        heappop(self._leaves)
        assert leaf.parent is not None
        del leaf.parent.children[int(leaf.keys[0])]
        self._offer(leaf.parent)

    def _push(self, slots: npt.NDArray[np.integer]) -> None:
        self._free[self._free_count : self._free_count + len(slots)] = slots[::-1]
        self._free_count += len(slots)


@dataclass(frozen=True, slots=True, eq=False)
class _Readouts:
    """Logits of some tokens of a node: ascending offsets in it, (readouts,) int32, and rows, (readouts, labels)."""

    offsets: npt.NDArray[np.int32]
    rows: Logits

    def split(self, at: int) -> tuple["_Readouts", "_Readouts"]:
        cut = int(np.searchsorted(self.offsets, at))
        return (
            _Readouts(self.offsets[:cut].copy(), self.rows[:cut].copy()),
            _Readouts(self.offsets[cut:] - np.int32(at), self.rows[cut:].copy()),
        )

    def plus(self, offered: Mapping[int, Logits]) -> "_Readouts":
        """With those of other offsets; where there are logits, they stay."""
        rows = {**offered, **dict(zip(self.offsets.tolist(), self.rows, strict=True))}
        if len(rows) == len(self.offsets):
            return self
        offsets = sorted(rows)
        return _Readouts(np.array(offsets, np.int32), np.stack([rows[offset] for offset in offsets], dtype=np.float32))


_NO_READOUTS = _Readouts(np.empty(0, np.int32), np.empty((0, 0), np.float32))


@dataclass(slots=True, eq=False)
class _Node:
    """A run of tokens that were last used together: keys (tokens,) and slots (tokens,) int32.

    `pins` counts the matches that end here or below. Arrays are copied and never views, which would keep evicted
    tokens in memory.
    """

    keys: Keys
    slots: npt.NDArray[np.int32]
    parent: "_Node | None"
    last_used: int
    pins: int = 0
    readouts: _Readouts = _NO_READOUTS
    children: dict[int, "_Node"] = field(default_factory=dict)
    queued: bool = False

    @property
    def evictable(self) -> bool:
        return not self.pins and not self.children and self.parent is not None

    def split(self, at: int) -> "_Node":
        """Move the first `at` tokens to a new parent, which is returned.

        The node itself stays the deeper part, so that a match that ends with it still finds all that it pinned.
        """
        assert self.parent is not None
        upper = _Node(self.keys, self.slots, self.parent, self.last_used, self.pins, self.readouts)
        upper.cut(at)
        upper.children[int(self.keys[at])] = self
        self.parent.children[int(self.keys[0])] = upper
        self.keys, self.slots, self.parent = self.keys[at:].copy(), self.slots[at:].copy(), upper
        self.readouts = self.readouts.split(at)[1]
        return upper

    def cut(self, kept: int) -> None:
        self.keys, self.slots = self.keys[:kept].copy(), self.slots[:kept].copy()
        self.readouts = self.readouts.split(kept)[0]


def _shared(edge: Keys, keys: Keys) -> int:
    """How many leading keys two runs share that have the first in common."""
    length = min(len(edge), len(keys))
    # The first keys are equal, so that 0 says that none differ.
    return int((edge[:length] != keys[:length]).argmax()) or length


def _slots(path: list[_Node]) -> Slots:
    return np.concatenate([node.slots for node in path], dtype=np.int64)


def _set_logits(path: list[_Node], logits: Mapping[int, Logits]) -> None:
    positions = sorted(logits)
    first = start = 0
    for node in path:
        last = bisect_left(positions, start + len(node.keys))
        if last > first:
            node.readouts = node.readouts.plus({at - start: logits[at] for at in positions[first:last]})
        first, start = last, start + len(node.keys)
