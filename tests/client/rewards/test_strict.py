"""Strict rewards of any text at all: a number within the documented range, or a refusal of the solution."""

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.rewards import SHIPPED, UnusableTruth
from steelyard.rewards.classification import classification_reward
from steelyard.rewards.detection import detection_rewards
from steelyard.rewards.grounding import grounding_reward
from steelyard.rewards.multiple_choice import letter_of, multiple_choice_reward
from steelyard.rewards.tag_format import format_reward
from tests.client.rewards.texts import BOXES, TAGGED

TRUTH = "<answer>[{'Position': [100, 100, 300, 300], 'Confidence': 1}, {'Position': [0, 0, 9, 9]}]</answer>"


def within(value: float, low: float, high: float) -> bool:
    return type(value) is float and math.isfinite(value) and low <= value <= high


@settings(max_examples=300, deadline=None)
@given(response=TAGGED | BOXES, truth=st.just(TRUTH) | TAGGED | BOXES)
def test_any_texts_detection_is_within_its_range(response: str, truth: str) -> None:
    try:
        found = detection_rewards(response, truth)
    except UnusableTruth:
        return
    assert all(within(value, 0, 1) for value in found)


@settings(max_examples=300, deadline=None)
@given(response=TAGGED, truth=st.just("<answer>(100,100),(300,300)</answer>") | TAGGED)
def test_any_texts_grounding_is_within_its_range(response: str, truth: str) -> None:
    try:
        found = grounding_reward(response, truth)
    except UnusableTruth:
        return
    assert within(found, 0, 2)


@settings(max_examples=200, deadline=None)
@given(response=TAGGED, truth=st.just("rose") | st.just("A") | TAGGED)
def test_any_texts_other_rewards_are_0_or_1(response: str, truth: str) -> None:
    for reward in (classification_reward, multiple_choice_reward):
        with contextlib.suppress(UnusableTruth):
            assert reward(response, truth) in (0.0, 1.0)
    assert format_reward(response) in (0.0, 1.0)


@settings(max_examples=200, deadline=None)
@given(response=TAGGED | BOXES)
def test_shipped_totals_stay_within_their_bounds(response: str) -> None:
    truths = {"detection": TRUTH, "classification": "rose", "grounding": "(1,2),(3,4)", "multiple_choice": "A"}
    for name, truth in truths.items():
        low, high = SHIPPED[name].bounds
        assert within(SHIPPED[name].evaluate(response, truth).total, low, high)


@pytest.mark.parametrize(
    ("truth", "is_usable"),
    [
        ("[{'Position': [1, 1, 2, 2]}]", True),
        ("<answer> no_objects </answer>", True),
        ("[]", True),
        ("[{'Position': [2, 2, 1, 1]}]", False),
        ("[{'Position': [1, 1, 2, Infinity]}]", False),
        ("[{'Position': [1, 1, 2, 1" + "0" * 400 + "]}]", False),
        ("[{'Position': [true, 1, 2, 2]}]", False),
        ("", False),
        ("<answer>[]</answer><answer>[]</answer>", False),
    ],
)
def test_a_solution_is_boxes_or_none(truth: str, is_usable: bool) -> None:
    answer = "<answer>[{'Position': [1, 1, 2, 2], 'Confidence': 1}]</answer>"
    if is_usable:
        assert detection_rewards(answer, truth) == ((1.0,) * 3 if "Position" in truth else (0.0,) * 3)
    else:
        with pytest.raises(UnusableTruth):
            detection_rewards(answer, truth)


def test_calibration_pays_most_for_honest_confidences_and_nothing_for_wrong_boxes() -> None:
    truth = "[{'Position': [0, 0, 10, 10]}, {'Position': [50, 50, 60, 60]}]"
    right, far = "{'Position': [0, 0, 10, 10], 'Confidence': 0.5}", "{'Position': [90, 90, 99, 99], 'Confidence': %s}"
    alone, decoy, boast = (
        detection_rewards(f"<answer>[{', '.join(rows)}]</answer>", truth)
        for rows in ([right], [right, far % 0], [right, far % 0.5])
    )
    assert alone.calibration == decoy.calibration == 0.75 / 2
    assert boast.calibration == (0.75 - 0.25) / 2
    assert decoy.confidence > alone.confidence  # what the paper's own pays for


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("b", "B"), ("(b)", "B"), ("B.", "B"), ("B)", "B"), ("AB", None), ("", None), ("()", None),
     ("E", None), ("ß", None), ("B..", None), ("1", None), ("(B", None)],
)  # fmt: skip
def test_a_choice_is_one_letter(text: str, letter: str | None) -> None:
    assert letter_of(text, "ABCD") == letter
    right = multiple_choice_reward(f"<answer>{text}</answer>", "B", choices="ABCD")
    assert right == (1.0 if letter == "B" else 0.0)
