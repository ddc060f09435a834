"""Pairs and RM-Bench's matrix, against their definitions."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.preferences import Outcome, hard_normal_easy, ranks_first, style_matrix, weighted

THREE = st.tuples(*[st.integers(0, 3)] * 3)


@given(st.lists(st.tuples(THREE, THREE), min_size=1, max_size=8))
def test_difficulties_equal_a_count_of_pairs(items: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    wins: dict[str, list[bool]] = {"hard": [], "normal": [], "easy": []}
    for chosen, rejected in items:
        for a, b in product(range(3), repeat=2):
            kind = "normal" if a == b else "hard" if a < b else "easy"
            wins[kind].append(chosen[a] > rejected[b])
    expected = [sum(wins[kind]) / len(wins[kind]) for kind in ("hard", "normal", "easy")]
    assert hard_normal_easy(style_matrix(items)) == pytest.approx(tuple(expected))


def test_a_tie_in_a_ranking_goes_to_the_earlier() -> None:
    assert ranks_first([1.0, 1.0], 0)
    assert not ranks_first([1.0, 1.0], 1)
    assert ranks_first([0.0, 1.0], 1)


def test_the_leaderboard_lets_mathematics_weigh_as_much_as_code() -> None:
    maths = [Outcome("Reasoning", "math-prm", True, False)] * 447
    code = [Outcome("Reasoning", "hep-python", False, False)] * 984
    assert weighted(maths + code) == pytest.approx(0.5)
