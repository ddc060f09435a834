"""Macro-F1 and its threshold, against counts by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.step_f1 import LabelledScores

# Few different scores, so that many are equal.
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.sampled_from([1, 0, -1])))


def macro_f1(steps: list[tuple[float, int]], threshold: float) -> float:
    f1 = []
    for positive in (1, -1):
        called = [(1 if score > threshold else -1, label) for score, label in steps if label != 0]
        hits = sum(said == label == positive for said, label in called)
        said = sum(verdict == positive for verdict, _ in called)
        meant = sum(label == positive for _, label in called)
        precision, recall = (hits / said if said else 0.0), (hits / meant if meant else 0.0)
        f1.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(f1) / 2


@given(STEPS, st.sampled_from([-0.1, 0.1, 0.3, 0.85, 1.0]))
def test_macro_f1_equals_a_count_by_hand(steps: list[tuple[float, int]], threshold: float) -> None:
    assert LabelledScores(steps).verdicts(threshold).macro_f1 == pytest.approx(macro_f1(steps, threshold))


@given(STEPS)
def test_no_threshold_is_better_than_the_best(steps: list[tuple[float, int]]) -> None:
    best = macro_f1(steps, LabelledScores(steps).best_threshold())
    assert all(best >= macro_f1(steps, cut / 20) - 1e-12 for cut in range(-1, 22))


def test_neutral_steps_change_nothing() -> None:
    steps = [(0.9, 1), (0.2, -1), (0.6, -1)]
    assert LabelledScores([*steps, (0.1, 0), (0.99, 0)]).verdicts(0.5) == LabelledScores(steps).verdicts(0.5)


def test_a_score_at_the_threshold_is_incorrect() -> None:
    assert LabelledScores([(0.85, 1)]).verdicts(0.85).correct_called_incorrect == 1


def test_neighbouring_floats_are_told_apart() -> None:
    low, high = 0.3, 0.30000000000000004
    scores = LabelledScores([(low, -1), (high, 1)])
    assert scores.verdicts(scores.best_threshold()).macro_f1 == 1
