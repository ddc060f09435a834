"""EasyR1's two forms of a reward function."""

import json

import pytest

from steelyard.errors import InvalidCall
from steelyard.trainers import NotScored
from steelyard.trainers.easyr1 import RewardInput, compute_score
from tests.client.trainers.asked import CLOSE, CONTROL, LABEL, RESPONSES, scores


def asked(response: str, truth: object = LABEL) -> RewardInput:
    return RewardInput(response=response, response_length=7, ground_truth=truth)


def test_a_list_and_one_input_get_their_overall_scores(url: str) -> None:
    found = compute_score([asked(text, json.dumps(LABEL)) for text in RESPONSES], url=url)
    assert [score["overall"] for score in found] == pytest.approx(scores(url), abs=CLOSE)
    assert compute_score(asked(RESPONSES[0]), url=url)["overall"] == pytest.approx(scores(url)[0], abs=CLOSE)


def test_a_response_without_a_score_is_an_exception(url: str) -> None:
    with pytest.raises(NotScored):
        compute_score([asked(RESPONSES[0]), asked(CONTROL)], url=url, control_tokens="refuse")


def test_a_ground_truth_without_a_question_is_refused(url: str) -> None:
    with pytest.raises(InvalidCall, match="question"):
        compute_score(asked(RESPONSES[0], "circle"), url=url)
