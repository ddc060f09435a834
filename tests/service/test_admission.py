"""Who is let in, by permits alone: the clock is the test's."""

from dataclasses import dataclass, field
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import Admission, Limits, Permit, Refusal
from service.cost import Cost
from service.drain import LONGEST_RETRY_S, DrainRate
from steelyard.schema import Priority

LIMITS = Limits(groups=10, tokens=1000, tiles=100, online_share=0.2)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
CALLERS = ("ann", "ben")


def let_in(found: Permit | Refusal) -> Permit:
    assert isinstance(found, Permit), found
    return found


def refused(found: Permit | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


def held(admission: Admission) -> dict[str, int]:
    return {kind: permits.held for kind, permits in admission.permits.items()}


def test_train_leaves_a_share_to_online_and_batch_more() -> None:
    admission = Admission(LIMITS)
    let_in(admission.take(Cost(640, 0), "batch", "ann", 0.0))
    assert refused(admission.take(Cost(1, 0), "batch", "ann", 0.0)).reason == "tokens"
    let_in(admission.take(Cost(160, 0), "train", "ann", 0.0))
    assert refused(admission.take(Cost(1, 0), "train", "ann", 0.0)).reason == "tokens"
    let_in(admission.take(Cost(200, 0), "online", "ann", 0.0))
    assert refused(admission.take(Cost(1, 0), "online", "ann", 0.0)).reason == "tokens"


def test_groups_and_tiles_are_kept_for_online_too() -> None:
    groups, tiles = Admission(LIMITS), Admission(LIMITS)
    for _ in range(8):
        let_in(groups.take(Cost(1, 0), "train", "ann", 0.0))
    assert refused(groups.take(Cost(1, 0), "train", "ann", 0.0)).reason == "groups"
    let_in(groups.take(Cost(1, 0), "online", "ann", 0.0))
    let_in(tiles.take(Cost(1, 80), "train", "ann", 0.0))
    assert refused(tiles.take(Cost(1, 1), "train", "ann", 0.0)).reason == "tiles"
    let_in(tiles.take(Cost(1, 1), "online", "ann", 0.0))


def test_a_group_without_pictures_needs_no_tiles() -> None:
    admission = Admission(LIMITS)
    let_in(admission.take(Cost(1, 100), "online", "ann", 0.0))
    let_in(admission.take(Cost(1, 0), "batch", "ann", 0.0))


def test_what_is_larger_than_everything_goes_when_nothing_else_waits() -> None:
    admission = Admission(LIMITS)
    small = let_in(admission.take(Cost(1, 1), "online", "ann", 0.0))
    assert refused(admission.take(Cost(5000, 500), "batch", "ann", 0.0)).reason in ("tokens", "tiles")
    admission.give_back(small, 1.0, finished=True)
    large = let_in(admission.take(Cost(5000, 500), "batch", "ann", 1.0))
    refused(admission.take(Cost(1, 0), "online", "ann", 1.0))
    admission.give_back(large, 2.0, finished=True)
    let_in(admission.take(Cost(1, 0), "online", "ann", 2.0))


def test_a_server_of_one_group_takes_one_of_any_priority() -> None:
    for priority in PRIORITIES:
        admission = Admission(Limits(groups=1, tokens=1000, tiles=100, online_share=0.2))
        permit = let_in(admission.take(Cost(1, 0), priority, "ann", 0.0))
        assert refused(admission.take(Cost(1, 0), "online", "ann", 0.0)).reason == "groups"
        admission.give_back(permit, 1.0, finished=True)
        let_in(admission.take(Cost(1, 0), "online", "ann", 1.0))


def test_one_key_holds_no_more_than_its_share_while_another_passes() -> None:
    admission = Admission(Limits(groups=10, tokens=1000, tiles=100, key_share=0.3))
    let_in(admission.take(Cost(300, 0), "online", "ann", 0.0))
    assert refused(admission.take(Cost(1, 0), "online", "ann", 0.0)).reason == "key_share"
    permit = let_in(admission.take(Cost(300, 0), "online", "ben", 0.0))
    admission.give_back(permit, 1.0, finished=True)
    let_in(admission.take(Cost(700, 0), "online", "ben", 1.0))


def test_a_tenth_of_twenty_is_two() -> None:
    """As floats, 1 - 0.9 is less than a tenth."""
    admission = Admission(Limits(groups=20, tokens=1000, tiles=100, online_share=0.9))
    for _ in range(2):
        let_in(admission.take(Cost(1, 0), "train", "ann", 0.0))
    assert refused(admission.take(Cost(1, 0), "train", "ann", 0.0)).reason == "groups"


def test_a_permit_is_given_back_once() -> None:
    admission = Admission(LIMITS)
    permit = let_in(admission.take(Cost(1, 0), "online", "ann", 0.0))
    admission.give_back(permit, 1.0, finished=True)
    with pytest.raises(KeyError):
        admission.give_back(permit, 1.0, finished=True)
    assert held(admission) == {"groups": 0, "tokens": 0, "tiles": 0}


# Retry-After


def measured(tokens_per_s: int, limits: Limits = LIMITS) -> tuple[Admission, float]:
    """An admission that has seen this rate for ten minutes, and its time."""
    admission, now = Admission(limits), 0.0
    for _ in range(600):
        permit = let_in(admission.take(Cost(tokens_per_s, 0), "online", "ann", now))
        now += 1.0
        admission.give_back(permit, now, finished=True)
    return admission, now


def test_retry_after_is_the_time_in_which_enough_is_done() -> None:
    admission, now = measured(100)
    let_in(admission.take(Cost(1000, 0), "online", "ann", now))
    assert refused(admission.take(Cost(50, 0), "online", "ann", now)).retry_after_s == 1
    assert refused(admission.take(Cost(950, 0), "online", "ann", now)).retry_after_s == 10
    assert refused(admission.take(Cost(750, 0), "train", "ann", now)).retry_after_s == 10


def test_the_longest_wait_is_told_and_what_it_is_for() -> None:
    admission, now = measured(100)
    let_in(admission.take(Cost(1000, 100), "online", "ann", now))
    few, many = (refused(admission.take(Cost(tokens, 100), "online", "ann", now)) for tokens in (1, 900))
    # Of tiles, of which nothing is known, 100 a second are expected.
    assert (few.reason, few.retry_after_s) == ("tiles", 1)
    assert (many.reason, many.retry_after_s) == ("tokens", 9)


def test_retry_after_of_what_never_fits_is_the_time_until_nothing_waits() -> None:
    admission, now = measured(100)
    let_in(admission.take(Cost(500, 0), "online", "ann", now))
    assert refused(admission.take(Cost(10**9, 0), "online", "ann", now)).retry_after_s == 5


def test_retry_after_is_a_second_at_least_and_a_minute_at_most() -> None:
    fast, now = measured(10**6, Limits(groups=10, tokens=10**6, tiles=100))
    let_in(fast.take(Cost(10**6, 0), "online", "ann", now))
    assert refused(fast.take(Cost(1, 0), "online", "ann", now)).retry_after_s == 1
    stuck = Admission(LIMITS)
    let_in(stuck.take(Cost(1000, 0), "online", "ann", 0.0))
    assert refused(stuck.take(Cost(1, 0), "online", "ann", 10.0**9)).retry_after_s == LONGEST_RETRY_S


def test_before_anything_is_measured_retry_after_is_sane() -> None:
    admission = Admission(Limits(groups=10, tokens=10**6, tiles=100))
    let_in(admission.take(Cost(10**6, 0), "online", "ann", 0.0))
    assert 1 < refused(admission.take(Cost(10**5, 0), "online", "ann", 0.0)).retry_after_s < 30


@given(
    st.lists(st.integers(1, 400), max_size=12),
    st.integers(1, 2000),
    st.sampled_from(PRIORITIES),
    st.integers(1, 400),
)
def test_retry_after_never_falls_as_more_waits(loads: list[int], asked: int, priority: Priority, more: int) -> None:
    waits = []
    for queue in (loads, [*loads, more]):
        admission = Admission(Limits(groups=100, tokens=500, tiles=100, online_share=0.2))
        # What waits may be past the capacity only by the alone rule, so it is put there by force.
        for tokens in queue:
            admission.permits["tokens"].take(tokens, "online", "ann", 0.0)
        found = admission.take(Cost(asked, 0), priority, "ann", 0.0)
        waits.append(found.retry_after_s if isinstance(found, Refusal) else 0)
    assert waits[0] <= waits[1]


# The rate


def test_the_rate_is_what_was_done_in_the_time_in_which_something_waited() -> None:
    rate = DrainRate(expected_per_s=1.0)
    for _ in range(1000):
        rate.finish(50)
        rate.pass_time(1.0)
    assert rate.per_s == pytest.approx(50, rel=0.02)
    for _ in range(1000):
        rate.finish(5)
        rate.pass_time(1.0)
    assert rate.per_s == pytest.approx(5, rel=0.02)


def test_idle_time_and_what_was_dropped_say_nothing_of_the_rate() -> None:
    admission, now = measured(100)
    before = admission.permits["tokens"].per_s
    for _ in range(20):
        now += 3600.0
        permit = let_in(admission.take(Cost(900, 0), "online", "ann", now))
        admission.give_back(permit, now, finished=False)
    assert admission.permits["tokens"].per_s == before


def test_texts_alone_do_not_make_pictures_look_slow() -> None:
    admission, _ = measured(100)
    assert admission.permits["tiles"].per_s == Admission(LIMITS).permits["tiles"].per_s


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_the_rate_does_not_depend_on_how_often_it_is_asked(pieces: list[float]) -> None:
    whole, cut = DrainRate(10.0), DrainRate(10.0)
    whole.pass_time(sum(pieces))
    for piece in pieces:
        cut.pass_time(piece)
    assert cut.per_s == pytest.approx(whole.per_s, rel=1e-6)


# Whatever comes and goes


@dataclass
class Traffic:
    """Groups that come and go, and what is held by all."""

    admission: Admission
    limits: Limits
    now: float = 0.0
    permits: list[Permit] = field(default_factory=list)

    def come(self, cost: Cost, priority: Priority, caller: str) -> None:
        before = held(self.admission)
        found = self.admission.take(cost, priority, caller, self.now)
        if isinstance(found, Refusal):
            assert held(self.admission) == before
            assert 1 <= found.retry_after_s <= LONGEST_RETRY_S
            assert any(before.values())
            return
        self.permits.append(found)
        whole = {"groups": self.limits.groups, "tokens": self.limits.tokens, "tiles": self.limits.tiles}
        for kind, amount in held(self.admission).items():
            alone = before[kind] == 0
            share = self.limits.share(priority)
            assert found.amounts[kind] == 0 or alone or amount <= share * whole[kind] + 1e-6  # type: ignore[index]

    def go(self, which: int, *, finished: bool) -> None:
        if self.permits:
            permit = self.permits.pop(which % len(self.permits))
            self.admission.give_back(permit, self.now, finished=finished)

    def check(self) -> None:
        for kind, permits in self.admission.permits.items():
            assert permits.held == sum(permit.amounts[kind] for permit in self.permits) >= 0
            assert permits.held == sum(permits.by_priority.values())
            assert all(count >= 0 for count in permits.by_priority.values())


comings = st.tuples(
    st.builds(Cost, st.integers(1, 1500), st.integers(0, 150)),
    st.sampled_from(PRIORITIES),
    st.sampled_from(CALLERS),
)
goings = st.tuples(st.integers(0, 100), st.booleans())


@given(
    st.lists(st.tuples(st.floats(0, 1000), comings | goings), max_size=60),
    st.sampled_from([0.0, 0.2, 0.9]),
    st.sampled_from([0.1, 0.5, 1.0]),
)
def test_permits_stay_within_the_capacity_and_all_come_back(
    events: list[tuple[float, tuple[Cost, Priority, str] | tuple[int, bool]]], online_share: float, key_share: float
) -> None:
    limits = Limits(groups=10, tokens=1000, tiles=100, online_share=online_share, key_share=key_share)
    traffic = Traffic(Admission(limits), limits)
    for passed_s, event in events:
        traffic.now += passed_s
        if len(event) == 3:
            traffic.come(*event)
        else:
            traffic.go(event[0], finished=event[1])
        traffic.check()
    while traffic.permits:
        traffic.go(0, finished=False)
    assert held(traffic.admission) == {"groups": 0, "tokens": 0, "tiles": 0}
    for priority in PRIORITIES:
        fresh = traffic.admission.take(Cost(1, 1), priority, "ann", traffic.now)
        traffic.admission.give_back(let_in(fresh), traffic.now, finished=True)
