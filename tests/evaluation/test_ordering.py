"""Agreement of orders, against other definitions."""

from itertools import permutations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.ordering import best, kendall_tau_b

VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(VALUES)
def test_tau_b_equals_its_definition_by_counts_of_ties(pairs: list[tuple[int, int]]) -> None:
    """(P - Q) / sqrt((n0 - n1)(n0 - n2)), where n1 and n2 sum t(t - 1)/2 over the tied blocks of either side."""
    ones, others = [a for a, _ in pairs], [b for _, b in pairs]
    ordered = [(a, b, c, d) for (a, b), (c, d) in permutations(pairs, 2)]
    agreeing = sum((a < c and b < d) for a, b, c, d in ordered)
    opposed = sum((a < c and b > d) for a, b, c, d in ordered)
    n0 = len(pairs) * (len(pairs) - 1) / 2
    n1, n2 = (sum(side.count(v) * (side.count(v) - 1) / 2 for v in set(side)) for side in (ones, others))
    found = kendall_tau_b(ones, others)
    if n0 in (n1, n2):
        assert found is None
    else:
        assert found == pytest.approx((agreeing - opposed) / sqrt((n0 - n1) * (n0 - n2)))


@given(VALUES)
def test_tau_b_is_symmetric_and_turns_with_the_order(pairs: list[tuple[int, int]]) -> None:
    ones, others = [a for a, _ in pairs], [b for _, b in pairs]
    found = kendall_tau_b(ones, others)
    assert kendall_tau_b(others, ones) == found
    assert kendall_tau_b([-a for a in ones], others) == (None if found is None else -found)


def test_a_worked_example() -> None:
    assert kendall_tau_b([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]) == pytest.approx(-0.4714045207910317)


def test_the_first_of_equals_is_the_best() -> None:
    assert best([0.1, 0.7, 0.7]) == 1
