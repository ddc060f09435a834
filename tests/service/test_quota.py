"""Tokens a minute of each caller, by the test's clock."""

import math

from hypothesis import given
from hypothesis import strategies as st

from service.quota import TokenBuckets


def test_a_minutes_worth_may_come_at_once_and_then_as_it_fills() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("ann", 60, 0.0) == 0
    assert buckets.take("ann", 5, 0.0) == 5.0
    assert buckets.take("ann", 5, 4.0) == 1.0
    assert buckets.take("ann", 5, 5.0) == 0
    assert buckets.take("ann", 1, 5.0) == 1.0


def test_callers_do_not_share_a_bucket() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("ann", 60, 0.0) == 0
    assert buckets.take("ben", 60, 0.0) == 0


def test_more_than_a_minutes_worth_goes_from_a_full_bucket_and_leaves_it_in_debt() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("ann", 1, 0.0) == 0
    assert buckets.take("ann", 180, 0.5) == 0.5
    assert buckets.take("ann", 180, 1.0) == 0
    assert buckets.take("ann", 1, 1.0) == 121.0
    assert buckets.take("ann", 60, 1.0) == 180.0
    assert buckets.take("ann", 60, 181.0) == 0


def test_a_bucket_holds_no_more_than_a_minutes_worth() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("ann", 60, 0.0) == 0
    assert buckets.take("ann", 60, 10_000.0) == 0
    assert buckets.take("ann", 1, 10_000.0) == 1.0


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("ann", 60, 0.0) == 0
    buckets.give_back("ann", 60, 0.0)
    assert buckets.take("ann", 60, 0.0) == 0
    buckets.give_back("ben", 60, 0.0)
    assert buckets.take("ben", 60, 0.0) == 0
    assert buckets.take("ben", 1, 0.0) == 1.0


def test_callers_whose_buckets_are_full_are_forgotten() -> None:
    buckets = TokenBuckets(60)
    assert buckets.take("debtor", 10**6, 0.0) == 0
    for second in range(10_000):
        assert buckets.take(f"caller {second}", 1, float(second)) == 0
    assert len(buckets) < 40
    assert buckets.take("debtor", 1, 10_000.0) > 0


@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 200)), max_size=30),
    st.floats(0, 10**6),
)
def test_the_wait_is_exact_and_no_more_passes_than_the_rate(
    per_minute: int, asked: list[tuple[int, float]], start: float
) -> None:
    buckets, now, passed, largest = TokenBuckets(per_minute), start, 0, 0
    for tokens, pause_s in asked:
        now += pause_s
        wait_s = buckets.take("ann", tokens, now)
        if wait_s:
            assert wait_s > 0
            assert buckets.take("ann", tokens, now + wait_s / 2) > 0 or wait_s < 1e-3
            now += math.ceil(wait_s)
            assert buckets.take("ann", tokens, now) == 0
        passed, largest = passed + tokens, max(largest, tokens)
    burst = max(per_minute, largest)
    assert passed <= burst + (now - start) / 60 * per_minute + per_minute * 1e-3 + 1
