"""The policy alone: no clock, no chance, no network."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import (
    BadAnswer,
    ConnectionFailed,
    InvalidCall,
    ServiceError,
    SteelyardError,
    TimedOut,
    class_of,
)
from steelyard.retry import Retry, is_transient, parse_retry_after

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def failure(status: int, retry_after_s: float | None = None) -> ServiceError:
    error = class_of(status, None)("not now")
    error.status, error.retry_after_s = status, retry_after_s
    return error


@pytest.mark.parametrize("status", [429, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert is_transient(failure(status))
    assert is_transient(ConnectionFailed("reset"))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 500, 502])
def test_what_will_not_pass_is_not(status: int) -> None:
    assert not is_transient(failure(status))


@pytest.mark.parametrize("error", [TimedOut("slow"), BadAnswer("html"), InvalidCall("no")])
def test_nothing_of_the_callers_own_is_tried_again(error: SteelyardError) -> None:
    assert Retry().pause_s(error, 0, 0.0, 0.5) is None


def test_the_window_doubles_up_to_its_cap_and_the_draw_picks_within_it() -> None:
    retry = Retry(first_s=0.5, longest_s=8.0)
    assert [retry.pause_s(failure(503), n, 0.0, 1.0) for n in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert [retry.pause_s(failure(503), 3, 0.0, draw) for draw in (0.0, 0.25, 0.5)] == [0.0, 1.0, 2.0]


def test_retry_after_is_a_floor_and_the_jitter_comes_on_top() -> None:
    assert Retry().pause_s(failure(429, retry_after_s=5.0), 0, 0.0, 0.0) == 5.0
    assert Retry(first_s=0.5).pause_s(failure(429, retry_after_s=5.0), 0, 0.0, 0.5) == 5.25


def test_it_ends_after_so_many_retries() -> None:
    retry = Retry(max_retries=2)
    assert [retry.pause_s(failure(503), attempt, 0.0, 0.5) is None for attempt in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert Retry(max_retries=0).pause_s(failure(503), 0, 0.0, 0.5) is None


def test_no_attempt_begins_after_the_time_is_up_so_a_long_retry_after_is_given_up_at_once() -> None:
    assert Retry(within_s=60).pause_s(failure(503, retry_after_s=10.0), 0, 49.0, 0.0) == 10.0
    assert Retry(within_s=60).pause_s(failure(503, retry_after_s=10.0), 0, 51.0, 0.0) is None
    assert Retry(within_s=60).pause_s(failure(503, retry_after_s=3600.0), 0, 0.0, 0.0) is None


@given(
    attempt=st.integers(0, 10**6),
    retry_after_s=st.none() | st.floats(0, 1e6),
    elapsed_s=st.floats(0, 1e6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_is_never_sooner_than_asked_nor_past_the_end(
    attempt: int, retry_after_s: float | None, elapsed_s: float, draw: float
) -> None:
    retry = Retry(max_retries=10**9)
    pause_s = retry.pause_s(failure(503, retry_after_s), attempt, elapsed_s, draw)
    if pause_s is not None:
        assert (retry_after_s or 0.0) <= pause_s <= (retry_after_s or 0.0) + retry.longest_s
        assert elapsed_s + pause_s <= retry.within_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("١٢", None),
        ("Tue, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_breaks_the_reader(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
