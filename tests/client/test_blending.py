"""Scores of several models made one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.blending import blend, fractional_ranks, standardised

SCORES = st.lists(st.floats(-1e30, 1e30), max_size=8)


def test_equal_scores_standardise_to_nothing() -> None:
    assert standardised([0.1, 0.1, 0.1]) == [0, 0, 0]
    assert standardised([1.0, 3.0]) == [-1, 1]
    assert standardised([]) == []


def test_equal_scores_share_their_ranks_and_one_alone_is_first() -> None:
    assert fractional_ranks([5.0, 1.0, 5.0, 9.0]) == [0.5, 0.0, 0.5, 1.0]
    assert fractional_ranks([2.0, 2.0]) == [0.5, 0.5]
    assert fractional_ranks([-7.0]) == [1.0]
    assert fractional_ranks([]) == []


def test_a_blend_is_the_weighted_sum_of_what_is_normalised() -> None:
    scores = {"steps": [0.0, 1.0], "outcome": [30.0, 10.0]}
    assert blend(scores, {"steps": 0.75, "outcome": 0.25}, "zscore") == [-0.5, 0.5]
    assert blend(scores, {"steps": 0.75, "outcome": 0.25}, "rank") == [0.25, 0.75]
    assert blend(scores, {"steps": 1.0, "outcome": 0.5}, "none") == [15.0, 6.0]


@given(SCORES)
def test_one_model_alone_keeps_its_order_however_it_is_normalised(scores: list[float]) -> None:
    for normalize in ("zscore", "rank", "none"):
        found = blend({"m": scores}, {"m": 2.0}, normalize)
        # Rounding may make one of two scores that differ by nearly nothing.
        assert all(a <= b for a, b in zip(*_by(scores, found), strict=False)) or len(scores) < 2


def _by(scores: list[float], found: list[float]) -> tuple[list[float], list[float]]:
    ordered = [value for _, value in sorted(zip(scores, found, strict=True))]
    return ordered, ordered[1:]


def test_a_model_without_scores_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        blend({"a": [1.0]}, {"b": 1.0}, "none")
