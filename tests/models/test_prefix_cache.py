from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.prefix_cache import Keys, Logits, Match, PrefixCache, Slots

Prefix = tuple[int, ...]


def _array(values: Sequence[int]) -> Keys:
    return np.array(values, np.int64)


def _logits(value: float) -> Logits:
    return np.array([value, -value], np.float32)


def _hold(cache: PrefixCache, keys: Sequence[int], logits: Mapping[int, Logits] | None = None) -> Slots:
    """Insert a sequence as the engine does: match, allocate the rest, insert, release. Returns its slots."""
    match = cache.match(_array(keys))
    slots = np.concatenate([match.slots, cache.allocate(len(keys) - len(match.slots))])
    cache.insert(_array(keys), slots, logits or {})
    cache.release(match)
    return slots


def _matched(cache: PrefixCache, keys: Sequence[int]) -> int:
    match = cache.match(_array(keys))
    cache.release(match)
    return len(match.slots)


@dataclass
class _Token:
    """A held token of the naive model, which knows it by all keys up to its own."""

    slot: int
    last_used: int
    pins: int = 0
    logits: float | None = None


@dataclass
class _Pending:
    """A batch between its allocation and its insertion."""

    sequences: list[Prefix]
    slots: list[Slots]
    matches: list[Match]
    pinned: list[Prefix] = field(default_factory=list)


# Two keys, so that sequences often part in the middle of a run.
SEQUENCES = st.lists(st.sampled_from([0, -1]), max_size=7).map(tuple)
READOUTS = st.sets(st.integers(0, 6))


class AgainstNaiveModel(RuleBasedStateMachine):
    """One token at a time, by dictionary: what is held, pinned, in hand, and what is to be evicted next."""

    @initialize(capacity=st.integers(0, 14))
    def start(self, capacity: int) -> None:
        self.capacity = capacity
        self.cache = PrefixCache(capacity)
        self.held: dict[Prefix, _Token] = {}
        self.in_hand: set[int] = set()
        self.pending: list[_Pending] = []
        self.matches: list[tuple[Match, Prefix]] = []
        self.now = 0
        self.stamp = 0
        self.looked_up = self.hit = self.evicted = 0

    def _touch(self, keys: Prefix) -> Prefix:
        """Mark the longest held prefix as used and return it."""
        self.now += 1
        length = 0
        while length < len(keys) and keys[: length + 1] in self.held:
            length += 1
            self.held[keys[:length]].last_used = self.now
        return keys[:length]

    def _pin(self, prefix: Prefix, by: int) -> None:
        for length in range(1, len(prefix) + 1):
            self.held[prefix[:length]].pins += by

    def _match(self, keys: Prefix) -> tuple[Match, Prefix]:
        match = self.cache.match(_array(keys))
        prefix = self._touch(keys)
        self._pin(prefix, 1)
        self.looked_up += len(keys)
        self.hit += len(prefix)
        tokens = [self.held[prefix[: length + 1]] for length in range(len(prefix))]
        assert match.slots.dtype == np.int64
        assert match.slots.tolist() == [token.slot for token in tokens]
        expected = {at: token.logits for at, token in enumerate(tokens) if token.logits is not None}
        assert {at: float(logits[0]) for at, logits in match.logits.items()} == expected
        for logits in match.logits.values():
            assert logits.dtype == np.float32
            assert logits.tolist() == [logits[0], -logits[0]]
        return match, prefix

    def _release(self, match: Match, prefix: Prefix) -> None:
        self.cache.release(match)
        self._pin(prefix, -1)

    def _allocate(self, count: int) -> Slots:
        slots = self.cache.allocate(count)
        room = self.capacity - len(self.in_hand) - len(self.held)
        while room < min(count, self.capacity):
            parents = {prefix[:-1] for prefix in self.held}
            leaves = [prefix for prefix in self.held if prefix not in parents and not self.held[prefix].pins]
            if not leaves:
                break
            del self.held[min(leaves, key=lambda prefix: self.held[prefix].last_used)]
            self.evicted += 1
            room += 1
        taken = set(slots.tolist())
        assert slots.dtype == np.int64
        assert len(taken) == len(slots) == min(count, room)
        assert taken <= set(range(self.capacity))
        assert not taken & self.in_hand
        assert not taken & {token.slot for token in self.held.values()}
        self.in_hand |= taken
        return slots

    def _insert(self, keys: Prefix, slots: Slots, logits: Mapping[int, float]) -> None:
        self.cache.insert(_array(keys), slots, {at: _logits(value) for at, value in logits.items()})
        self._touch(keys)
        for at, slot in enumerate(slots.tolist()):
            token = self.held.setdefault(keys[: at + 1], _Token(slot, self.now))
            # The caller loses the slot either way: to the token, or as surplus.
            self.in_hand.discard(slot)
            if at in logits and token.logits is None:
                token.logits = logits[at]

    def _begin(self, sequences: list[Prefix]) -> _Pending:
        """Sequences of one batch share the slots of tokens that they have in common; what has no slot is cut off."""
        matches = [self._match(keys) for keys in sequences]
        new = dict.fromkeys(
            keys[:length]
            for keys, (_, prefix) in zip(sequences, matches, strict=True)
            for length in range(len(prefix) + 1, len(keys) + 1)
        )
        slot_of = dict(zip(new, self._allocate(len(new)).tolist(), strict=False))
        batch = _Pending([], [], [match for match, _ in matches], [prefix for _, prefix in matches])
        for keys, (match, prefix) in zip(sequences, matches, strict=True):
            slots = match.slots.tolist()
            while len(slots) < len(keys) and keys[: len(slots) + 1] in slot_of:
                slots.append(slot_of[keys[: len(slots) + 1]])
            assert len(slots) >= len(prefix)
            batch.sequences.append(keys[: len(slots)])
            batch.slots.append(_array(slots))
        return batch

    def _finish(self, batch: _Pending, readouts: set[int]) -> None:
        if not batch.sequences:
            self.cache.free(batch.slots[0])
            self.in_hand -= set(batch.slots[0].tolist())
        for keys, slots in zip(batch.sequences, batch.slots, strict=False):
            self.stamp += 100
            self._insert(keys, slots, {at: float(self.stamp + at) for at in readouts if at < len(keys)})
        for match, prefix in zip(batch.matches, batch.pinned, strict=True):
            self._release(match, prefix)

    @rule(keys=SEQUENCES)
    def match_and_keep(self, keys: Prefix) -> None:
        self.matches.append(self._match(keys))

    @precondition(lambda self: self.matches)
    @rule(drawn=st.data())
    def release_one(self, drawn: st.DataObject) -> None:
        self._release(*self.matches.pop(drawn.draw(st.integers(0, len(self.matches) - 1))))

    @rule(count=st.integers(0, 16), kept=st.integers(0, 16))
    def allocate_and_give_some_back(self, count: int, kept: int) -> None:
        slots = self._allocate(count)
        self.cache.free(slots[kept:])
        self.in_hand -= set(slots[kept:].tolist())
        if len(slots[:kept]):
            self.pending.append(_Pending([], [slots[:kept]], []))

    @rule(keys=SEQUENCES, readouts=READOUTS)
    def serve(self, keys: Prefix, readouts: set[int]) -> None:
        self._finish(self._begin([keys]), readouts)

    @rule(sequences=st.lists(SEQUENCES, min_size=1, max_size=3))
    def begin_batch(self, sequences: list[Prefix]) -> None:
        self.pending.append(self._begin(sequences))

    @precondition(lambda self: self.pending)
    @rule(drawn=st.data(), readouts=READOUTS)
    def finish_batch(self, drawn: st.DataObject, readouts: set[int]) -> None:
        self._finish(self.pending.pop(drawn.draw(st.integers(0, len(self.pending) - 1))), readouts)

    @invariant()
    def counts_agree(self) -> None:
        counts = self.cache.counts
        assert (counts.held, counts.capacity) == (len(self.held), self.capacity)
        assert (counts.looked_up, counts.hit, counts.evicted) == (self.looked_up, self.hit, self.evicted)

    @invariant()
    def no_slot_has_two_owners(self) -> None:
        slots = {token.slot for token in self.held.values()}
        assert len(slots) == len(self.held)
        assert not slots & self.in_hand

    @invariant()
    def held_tokens_follow_held_tokens(self) -> None:
        assert all(prefix[:-1] in self.held for prefix in self.held if len(prefix) > 1)

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for prefix in list(self.held):
            match, found = self._match(prefix)
            assert found == prefix
            self._release(match, found)
        for match, prefix in self.matches:
            self._release(match, prefix)
        for batch in self.pending:
            for match, prefix in zip(batch.matches, batch.pinned, strict=True):
                self._release(match, prefix)
        self.cache.free(_array(sorted(self.in_hand)))
        self.in_hand.clear()
        assert sorted(self._allocate(self.capacity).tolist()) == list(range(self.capacity))


TestAgainstNaiveModel = AgainstNaiveModel.TestCase
TestAgainstNaiveModel.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_a_grown_sequence_finds_what_it_shares_and_its_logits() -> None:
    cache = PrefixCache(16)
    slots = _hold(cache, [5, 6, -7, 8], {1: _logits(0.5), 3: _logits(2)})
    match = cache.match(_array([5, 6, -7, 9, 10]))
    assert match.slots.tolist() == slots[:3].tolist()
    assert {at: logits.tolist() for at, logits in match.logits.items()} == {1: [0.5, -0.5]}


def test_the_least_recently_used_sequence_goes_first_and_from_its_tail() -> None:
    cache = PrefixCache(9)
    first = _hold(cache, [1, 1, 1])
    _hold(cache, [2, 2, 2])
    _hold(cache, [3, 3, 3])
    assert _matched(cache, [1, 1, 1]) == 3
    cache.allocate(2)
    assert [_matched(cache, [token] * 3) for token in (2, 3, 1)] == [1, 3, 3]
    cache.allocate(4)
    assert _matched(cache, [2, 2, 2]) == 0
    assert _matched(cache, [3, 3, 3]) == 0
    assert cache.match(_array([1, 1, 1])).slots.tolist() == first.tolist()


def test_a_parent_is_evicted_once_its_children_are() -> None:
    cache = PrefixCache(6)
    _hold(cache, [1, 2, 3, 4])
    _hold(cache, [1, 2, 5, 6])
    assert len(cache.allocate(6)) == 6
    assert cache.counts.held == 0


def test_a_pin_keeps_what_was_matched_through_splits_on_either_side() -> None:
    cache = PrefixCache(12)
    slots = _hold(cache, [1, 2, 3, 4, 5, 6])
    match = cache.match(_array([1, 2, 3, 4]))
    _hold(cache, [1, 2, 9])
    _hold(cache, [1, 2, 3, 4, 5, 9])
    assert len(cache.allocate(12)) == 8
    again = cache.match(_array([1, 2, 3, 4, 5, 6]))
    assert again.slots.tolist() == slots[:4].tolist()
    cache.release(again)
    assert len(cache.allocate(12)) == 0
    cache.release(match)
    assert len(cache.allocate(12)) == 4


def test_a_second_insertion_of_a_sequence_frees_its_slots_and_sets_only_missing_logits() -> None:
    cache = PrefixCache(6)
    mine, theirs = cache.allocate(3), cache.allocate(3)
    cache.insert(_array([1, 2, 3]), mine, {0: _logits(1)})
    cache.insert(_array([1, 2, 3]), theirs, {0: _logits(2), 2: _logits(3)})
    match = cache.match(_array([1, 2, 3]))
    assert match.slots.tolist() == mine.tolist()
    assert {at: logits[0] for at, logits in match.logits.items()} == {0: 1, 2: 3}
    assert sorted(cache.allocate(6).tolist()) == sorted(theirs.tolist())


def test_a_surplus_slot_that_two_sequences_share_is_freed_once() -> None:
    cache = PrefixCache(8)
    shared, left, right = cache.allocate(2), cache.allocate(1), cache.allocate(1)
    _hold(cache, [1, 2])
    cache.insert(_array([1, 2, 3]), np.concatenate([shared, left]), {})
    cache.insert(_array([1, 2, 4]), np.concatenate([shared, right]), {})
    assert cache.counts.held == 4
    assert sorted(cache.allocate(8).tolist()) == list(range(8))


def test_logits_vanish_with_their_token() -> None:
    cache = PrefixCache(3)
    _hold(cache, [1, 2, 3], {0: _logits(1), 2: _logits(2)})
    cache.free(cache.allocate(1))
    _hold(cache, [1, 2, 3])
    assert list(cache.match(_array([1, 2, 3])).logits) == [0]


def test_the_cache_keeps_copies_of_what_it_is_given() -> None:
    cache = PrefixCache(2)
    keys, slots, logits = _array([1, 2]), cache.allocate(2), _logits(1)
    cache.insert(keys, slots, {1: logits})
    keys[:], slots[:], logits[:] = 0, 0, 0
    match = cache.match(_array([1, 2]))
    assert sorted(match.slots.tolist()) == [0, 1]
    assert match.logits[1].tolist() == [1, -1]


def test_a_cache_without_slots_never_holds_anything() -> None:
    cache = PrefixCache(0)
    assert len(_hold(cache, [])) == 0
    assert len(cache.allocate(5)) == 0
    assert _matched(cache, [1, 2]) == 0
    assert cache.counts.looked_up == 2


def test_slots_that_the_caller_does_not_have_are_a_bug_of_the_caller() -> None:
    cache = PrefixCache(4)
    slots = cache.allocate(2)
    cache.free(slots)
    with pytest.raises(AssertionError):
        cache.free(slots)
    with pytest.raises(AssertionError):
        cache.insert(_array([1, 2]), slots, {})


def test_many_sequences_take_turns_in_a_full_cache() -> None:
    cache = PrefixCache(20_000)
    for token in range(20_000):
        _hold(cache, [token % 100, token, -1])
    counts = cache.counts
    assert 19_000 < counts.held <= counts.capacity
    assert _matched(cache, [99, 19_999, -1]) == 3
    # The queue has one entry for a node at most, however often that is used.
    for _ in range(5):
        for token in range(19_000, 20_000):
            _matched(cache, [token % 100, token, -1])
    assert len(cache._leaves) <= counts.held
