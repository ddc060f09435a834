"""OpenRLHF's Python form, called as its executor calls it: one sample a call, from a thread of its own."""

import asyncio
import json
from collections.abc import Callable

import pytest
import torch

from steelyard.trainers import NotScored, Options, Scorer
from steelyard.trainers.openrlhf import RewardFunction
from tests.client.trainers.asked import CLOSE, CONTROL, LABEL, PICTURE, QUESTION, RESPONSES, outcomes, scores

Scoring = Callable[[Options], Scorer]
PROMPT = f"<|im_start|>user\n<|image_pad|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n"


def query(response: str) -> str:
    return PROMPT.replace("<|image_pad|>", "<|image_pad|>" * 99) + response + "<|im_end|>"


def test_the_question_is_the_prompts_and_the_pictures_are_the_labels(url: str, scoring: Scoring) -> None:
    reward_func = RewardFunction(scoring(Options()))

    async def roll_out() -> list[dict[str, object]]:
        label = json.dumps({"images": [PICTURE], "answer": "circle"})
        calls = [asyncio.to_thread(reward_func, [query(text)], [PROMPT], [label]) for text in RESPONSES]
        return await asyncio.gather(*calls)

    found = asyncio.run(roll_out())
    for one, score in zip(found, scores(url), strict=True):
        assert isinstance(one["rewards"], torch.Tensor)
        assert isinstance(one["scores"], torch.Tensor)
        assert one["rewards"].shape == (1,)
        assert one["rewards"].item() == pytest.approx(score, abs=CLOSE)
        assert torch.equal(one["rewards"], one["scores"])
    assert [one["extra_logs"]["steps"].tolist() for one in found] == [[2.0], [1.0]]  # type: ignore[index]


def test_scores_lie_in_the_unit_interval_where_rewards_do_not(url: str, scoring: Scoring) -> None:
    reward_func = RewardFunction(scoring(Options(kind="outcome")))
    found = reward_func([query(text) for text in RESPONSES], [PROMPT] * 2, [{"images": [PICTURE]}] * 2)
    rewards = torch.tensor(outcomes(url))
    torch.testing.assert_close(found["rewards"], rewards, atol=CLOSE, rtol=CLOSE)
    torch.testing.assert_close(found["scores"], torch.sigmoid(rewards), atol=CLOSE, rtol=CLOSE)
    assert found["extra_logs"] == {}


def test_a_response_without_a_score_is_an_exception(scoring: Scoring) -> None:
    reward_func = RewardFunction(scoring(Options(control_tokens="refuse")))
    with pytest.raises(NotScored, match="1 of 2 samples have no score: 1: refused"):
        reward_func([query(RESPONSES[0]), query(CONTROL)], [PROMPT] * 2, [LABEL] * 2)


def test_nothing_asked_is_nothing_answered(scoring: Scoring) -> None:
    found = RewardFunction(scoring(Options()))([], [], [])
    assert found["rewards"].tolist() == found["scores"].tolist() == []  # type: ignore[attr-defined]
