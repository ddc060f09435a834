"""Specifications as trainers call them: what has no reward is None or raises."""

import logging

import pytest

from steelyard.errors import InvalidCall
from steelyard.rewards import ScoreMissing, Specification, UnusableTruth, shipped
from steelyard.rewards.adapter import RewardFunction, compute_score_of

ROSE = "<think>a</think><answer>rose</answer>"


def test_trl_gets_none_for_what_has_no_reward(caplog: pytest.LogCaptureFixture) -> None:
    reward = RewardFunction(shipped("classification"))
    chat = [{"role": "assistant", "content": ROSE}]
    with caplog.at_level(logging.WARNING):
        found = reward(completions=[ROSE, chat, ROSE], solution=["rose", "tulip", ""], prompts=["", "", ""])
    assert found == [2.0, 1.0, None]
    assert "1 of 3 have no reward" in caplog.text


def test_trl_s_served_scores_stand_in_columns() -> None:
    spec = Specification.model_validate({"terms": "format + served(prm)"})
    reward = RewardFunction(spec, served_columns={"prm": "prm_score"})
    assert reward(completions=[ROSE, ROSE, ROSE], prm_score=[0.5, None, float("nan")]) == [1.5, None, None]
    with pytest.raises(InvalidCall, match="prm"):
        RewardFunction(spec)


def test_a_column_that_is_not_there_ends_the_run() -> None:
    with pytest.raises(InvalidCall, match="no column 'solution'"):
        RewardFunction(shipped("classification"))(completions=[ROSE], answer=["rose"])
    with pytest.raises(InvalidCall, match="a solution is a text"):
        RewardFunction(shipped("classification"))(completions=[ROSE], solution=[3])


def test_verl_gets_the_total_and_the_parts_or_an_exception() -> None:
    compute_score = compute_score_of(shipped("classification"))
    assert compute_score("set", ROSE, "rose", extra_info={}) == {"classification": 1.0, "format": 1.0, "score": 2.0}
    with pytest.raises(UnusableTruth):
        compute_score("set", ROSE, "")
    served = compute_score_of(Specification.model_validate({"terms": "served(prm)"}))
    assert served("set", ROSE, None, {"served": {"prm": 0.5}})["score"] == 0.5
    with pytest.raises(ScoreMissing):
        served("set", ROSE, None, {"served": {"prm": None}})
