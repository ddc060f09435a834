"""Bootstrap intervals."""

import pytest

from evaluation.intervals import Bootstrap


def test_an_interval_holds_the_mean_and_is_as_wide_as_the_normal_one() -> None:
    values = [float(index % 2) for index in range(400)]
    low, high = Bootstrap(400, seed=0).interval(values)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [float(index % 3) for index in range(30)]
    assert Bootstrap(30, seed=1).interval(values) == Bootstrap(30, seed=1).interval(values)
    assert Bootstrap(30, seed=1).interval(values) != Bootstrap(30, seed=2).interval(values)


def test_equal_values_have_no_width() -> None:
    assert Bootstrap(5, seed=0).interval([1.0] * 5) == (1.0, 1.0)
