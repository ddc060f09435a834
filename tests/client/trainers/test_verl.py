"""verl's `compute_score` below managers as verl has them, and step rewards on a policy's tokens."""

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from steelyard.errors import InvalidCall
from steelyard.trainers import NotScored
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.verl import UnsafeManager, compute_score
from steelyard.trainers.verl_tokens import StepReward, step_ends
from tests.client.trainers.asked import CLOSE, CONTROL, LABEL, PICTURE, QUESTION, RESPONSES, scores, steps

RAW_PROMPT = [
    {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": f"\n{QUESTION}"}]}
]


@pytest.fixture
async def settings(url: str) -> AsyncIterator[dict[str, Any]]:
    given: dict[str, Any] = {"url": url, "control_tokens": "refuse"}
    yield given
    await scorer_of(given).aclose()


class NaiveRewardManager:
    """As verl's managers call: by keyword, what failed is the caller's."""

    def __init__(self, **reward_kwargs: Any) -> None:  # noqa: ANN401
        self._reward_kwargs = reward_kwargs

    async def run_single(self, response: str, extra_info: dict[str, Any]) -> float:
        found = await compute_score(
            data_source="demo",
            solution_str=response,
            ground_truth="circle",
            extra_info=extra_info,
            **self._reward_kwargs,
        )
        return found["score"]


class RateLimitedRewardManager(NaiveRewardManager):
    """As verl's: whatever failed is 0.0."""

    async def run_single(self, response: str, extra_info: dict[str, Any]) -> float:
        try:
            return await asyncio.wait_for(super().run_single(response, extra_info), 60)
        except Exception:  # noqa: BLE001
            return 0.0


@pytest.mark.parametrize(
    "extra_info",
    [
        LABEL,
        {"raw_prompt": RAW_PROMPT, "num_turns": None},
        # As data sets often have it: the question for people beside a prompt that shows the picture.
        {"raw_prompt": RAW_PROMPT, "question": f"<image>\n{QUESTION}"},
    ],
)
async def test_the_question_is_that_of_extra_info_or_the_prompt(
    settings: dict[str, object], url: str, extra_info: dict[str, Any]
) -> None:
    manager = NaiveRewardManager(**settings)
    found = await asyncio.gather(*(manager.run_single(text, extra_info) for text in RESPONSES))
    assert found == pytest.approx(scores(url), abs=CLOSE)


async def test_a_solution_without_a_score_is_an_exception(settings: dict[str, object]) -> None:
    with pytest.raises(NotScored):
        await NaiveRewardManager(**settings).run_single(CONTROL, LABEL)
    with pytest.raises(InvalidCall, match="question"):
        await NaiveRewardManager(**settings).run_single("It is.", {})


async def test_a_manager_that_makes_failures_0_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UnsafeManager):
        await RateLimitedRewardManager(**settings).run_single(CONTROL, LABEL)


def test_steps_end_on_the_tokens_that_were_drawn() -> None:
    tokens = ["I", " see", ".", "\n\nYe", "s", "."]

    def decode(count: int) -> str:
        return "".join(tokens[:count])

    assert step_ends([(0, 6), (8, 12)], len(tokens), decode) == [2, 5]
    # A step that ends within a token ends on it.
    assert step_ends([(0, 6), (8, 9), (8, 99)], len(tokens), decode) == [2, 3, 5]
    with pytest.raises(ValueError, match="without tokens"):
        step_ends([(0, 1)], 0, decode)


def test_letters_of_several_tokens_count_once() -> None:
    content = "Ein Würfel 🎲.\n\nJa.".encode()

    def decode(count: int) -> str:
        return content[:count].decode("utf-8", "replace")

    end = decode(len(content)).index("\n\n")
    (token,) = step_ends([(0, end)], len(content), decode)
    assert content[token : token + 1] == b"."


def test_a_step_reward_is_a_number_that_travels_with_its_tokens() -> None:
    reward = pickle.loads(pickle.dumps(StepReward(0.5, [(3, 0.2), (9, 0.3)])))
    assert (reward, reward.tokens) == (0.5, ((3, 0.2), (9, 0.3)))


class RewardManagerBase:
    """verl's base of reward-loop managers, as far as it is used."""

    def __init__(self, config: object, tokenizer: object, compute_score: object) -> None:
        self.config, self.tokenizer, self.compute_score = config, tokenizer, compute_score

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: list[float]) -> torch.Tensor:  # noqa: ANN401
        prompt = data.batch["prompts"].size(1)
        lengths = data.batch["attention_mask"][:, prompt:].sum(dim=1)
        placed = torch.zeros_like(data.batch["responses"], dtype=torch.float32)
        placed[torch.arange(placed.size(0)), lengths - 1] = placed.new_tensor(scores)
        return placed


class Bytes:
    """A policy's tokenizer with a token a byte."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> str:
        return bytes(ids.tolist()).decode("utf-8", "replace")


class Batch:
    """verl's DataProto, as far as it is read."""

    def __init__(self, responses: list[str]) -> None:
        ids = [torch.tensor(list(text.encode())) for text in responses]
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
        prompts = torch.ones(len(ids), 3, dtype=torch.long)
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        self.batch = {"prompts": prompts, "responses": padded, "attention_mask": torch.cat([prompts, mask], dim=1)}

    def __getitem__(self, place: int | slice) -> Any:  # noqa: ANN401
        if isinstance(place, slice):
            return self
        rows = {name: rows[place] for name, rows in self.batch.items()}
        return SimpleNamespace(batch=rows, non_tensor_batch={"raw_prompt": RAW_PROMPT})


def configuration(settings: dict[str, object], **agent: str) -> Any:  # noqa: ANN401
    rollout = SimpleNamespace(get=lambda name: agent)
    reward = {"steelyard": settings, "reward_model": {"enable": False}}
    return SimpleNamespace(reward=reward, actor_rollout_ref=SimpleNamespace(rollout=rollout))


@pytest.fixture
def manager_class(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    name = "verl.experimental.reward_loop.reward_manager.base"
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(parts[count - 1]))
    monkeypatch.setattr(sys.modules[name], "RewardManagerBase", RewardManagerBase, raising=False)
    monkeypatch.delitem(sys.modules, "steelyard.trainers.verl_steps", raising=False)
    from steelyard.trainers.verl_steps import StepRewardManager

    yield StepRewardManager
    sys.modules.pop("steelyard.trainers.verl_steps")


@pytest.mark.parametrize("divide", [True, False])
async def test_step_rewards_stand_on_the_tokens_on_which_their_steps_end(
    settings: dict[str, object],
    url: str,
    manager_class: Any,  # noqa: ANN401
    divide: bool,
) -> None:
    config = configuration({**settings, "divide": divide}, agent_loop_manager_class="steelyard…")
    manager = manager_class(config, Bytes())
    singles = [Batch([text]) for text in RESPONSES]
    found = [await manager.run_single(single) for single in singles]
    assert [one["reward_score"] for one in found] == pytest.approx(scores(url), abs=CLOSE)
    placed = manager_class.assemble_rm_scores(Batch(RESPONSES), [one["reward_score"] for one in found])
    for row, result in zip(placed, steps(url), strict=True):
        assert result.step_scores is not None
        assert result.step_spans is not None
        share = len(result.step_scores) if divide else 1
        wanted = torch.zeros_like(row)
        for (_, end), score in zip(result.step_spans, result.step_scores, strict=True):
            wanted[end - 1] = score / share
        torch.testing.assert_close(row, wanted, atol=CLOSE, rtol=CLOSE)


async def test_step_rewards_that_verl_would_not_place_are_refused_at_the_start(
    settings: dict[str, object],
    manager_class: Any,  # noqa: ANN401
) -> None:
    with pytest.raises(InvalidCall, match="agent_loop_manager_class"):
        manager_class(configuration(settings), Bytes())
