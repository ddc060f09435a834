"""Upstream's patterns, which are read here in one pass, against the regular expressions that they are."""

import re

import pytest
from hypothesis import given, settings

from steelyard.rewards.classification import classification_reward
from steelyard.rewards.detection import detection_rewards
from steelyard.rewards.grounding import grounding_reward
from steelyard.rewards.tag_format import format_reward
from steelyard.rewards.tags import Mode, first_answer, only_answer
from tests.client.rewards.texts import TAGGED


@settings(max_examples=400, deadline=None)
@given(TAGGED)
def test_the_first_answer_is_the_patterns(text: str) -> None:
    for across_lines in (False, True):
        match = re.search("<answer>(.*?)</answer>", text, re.DOTALL if across_lines else re.NOFLAG)
        assert first_answer(text, across_lines=across_lines) == (match and match[1])


@settings(max_examples=400, deadline=None)
@given(TAGGED)
def test_the_format_is_the_patterns(text: str) -> None:
    match = re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)
    assert format_reward(text, "upstream") == float(match is not None)


@settings(max_examples=200, deadline=None)
@given(TAGGED)
def test_the_only_answer_has_each_tag_once(text: str) -> None:
    once = text.count("<answer>") == text.count("</answer>") == 1
    match = re.search("<answer>(.*?)</answer>", text, re.DOTALL) if once else None
    assert only_answer(text) == (match and match[1].strip())


_HOSTILE = (
    "<answer>" * 60_000,
    "<answer>" * 60_000 + "</answer>",
    "<answer>\n" * 60_000,
    "<think>" + "</think>" * 60_000,
    "<think>" + "</think> <answer>" * 30_000,
    "<think></think>" + " " * 500_000,
    "<answer>" + "(" * 500_000 + "</answer>",
    "<answer>" + "(1" * 250_000 + "</answer>",
    "<answer>(" + " " * 500_000 + "</answer>",
    "<answer>" + "(1,1),(1,1)," * 40_000 + "</answer>",
    "<answer>" + "[" * 500_000 + "</answer>",
    "<answer>[" + "{'Position':" * 40_000 + "]</answer>",
    "<answer>" + "'" * 500_000 + "]</answer>",
    "<answer>" + "9" * 500_000 + "</answer>",
)


@pytest.mark.parametrize("mode", ["strict", "upstream"])
def test_half_a_megabyte_of_anything_is_read_in_one_pass(mode: Mode) -> None:
    """One that looks back would take minutes, and the test's own limit would end it."""
    for text in _HOSTILE:
        format_reward(text, mode)
        classification_reward(text, "<answer>rose</answer>", mode, maths_first=False)
        grounding_reward(text, "<answer>(1,1),(2,2)</answer>", mode, maths_first=False)
        detection_rewards(text, "<answer>[{'Position': [1, 1, 2, 2]}]</answer>", mode, maths_first=False)
