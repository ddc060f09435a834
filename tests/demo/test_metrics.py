"""The numbers that a reward model is judged by, on cases counted by hand."""

import pytest

from demo.card import flatten
from demo.metrics import Verdict, best_of, by_kind, in_order, macro_f1, recall_by_kind


def test_a_prediction_that_ignores_the_picture_scores_half_on_flips_at_most() -> None:
    flips = [Verdict("wrong color", right, said) for said in (True, False) for right in (True, False)]
    assert macro_f1(flips) == pytest.approx(0.5)
    assert macro_f1([Verdict("wrong color", right, True) for right in (True, False)]) == pytest.approx(1 / 3)


def test_f1_is_the_mean_of_both_labels() -> None:
    told = [Verdict("a", True, True), Verdict("a", True, False), Verdict("b", False, False)]
    assert macro_f1(told) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert by_kind(told)["a"]["accuracy"] == 0.5
    assert recall_by_kind(told) == {"a": 0.5, "b": 1.0}


def test_a_tie_is_half_in_order() -> None:
    assert in_order([(1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (2.0, 1.0)]) == pytest.approx(0.625)


def test_the_first_of_the_best_is_selected() -> None:
    scores, right = [0.2, 0.9, 0.9, 1.0], [False, True, False, False]
    assert best_of(scores, right, 3)
    assert not best_of(scores, right, 1)
    assert not best_of(scores, right, 4)


def test_nested_numbers_are_named_by_their_path() -> None:
    assert flatten({"a": {"b": 1, "c": [1]}, "d": 0.5}) == {"a/b": 1.0, "d": 0.5}
