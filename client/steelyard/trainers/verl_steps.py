"""A verl reward manager that puts each step's reward on the policy's token on which the step ends.

`reward.reward_manager.{source=importlib,name=StepRewardManager,module.path=pkg://steelyard.trainers.verl_steps}`;
settings are `+reward.steelyard.url=…` and so on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from steelyard.errors import InvalidCall
from steelyard.trainers.samples import SampleScore, scores_of
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.verl import sample_of
from steelyard.trainers.verl_tokens import Decode, StepReward, step_ends

_LOOP = "+actor_rollout_ref.rollout.agent.agent_loop_manager_class"
_OURS = "steelyard.trainers.verl_agent_loop.StepAgentLoopManager"


class StepRewardManager(RewardManagerBase):  # type: ignore[misc]
    """Step rewards by a process reward model; the rewards of an outcome model stand on the last token.

    A step's reward is its score divided by the number of steps, so that they add up to the mean and a response does
    not earn by having many; with `+reward.steelyard.divide=false` it is the score.
    """

    def __init__(
        self,
        config: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        compute_score: object = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: object = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        settings = dict(config.reward.get("steelyard") or {})
        self._divide = bool(settings.pop("divide", True))
        self._scorer = scorer_of(settings)
        _check_placing(config)

    async def run_single(self, data: Any) -> dict[str, object]:  # noqa: ANN401
        """The score as `reward_score`, a StepReward. Raises NotScored."""
        item = data[-1:][0]
        ids = item.batch["responses"][: _length(item)]

        def decode(count: int) -> str:
            return str(self.tokenizer.decode(ids[:count], skip_special_tokens=True))

        response = await asyncio.to_thread(decode, len(ids))
        beside = item.non_tensor_batch
        sample = sample_of(beside.get("extra_info") or {}, beside.get("raw_prompt"), response)
        results = await self._scorer.ascore([sample])
        (score,) = scores_of(results)
        tokens = await asyncio.to_thread(self._tokens, results[0], score, len(ids), decode)
        return {"reward_score": StepReward(score, tokens), "reward_extra_info": _logs(results[0], score)}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[float]) -> Any:  # noqa: ANN401
        """`rm_scores` (batch, response tokens), float32, by verl's own way where a score knows of no tokens."""
        placed = super().assemble_rm_scores(data, [float(score) for score in scores])
        for row, score in zip(placed, scores, strict=True):
            if isinstance(score, StepReward):
                row.zero_()
                for token, reward in score.tokens:
                    row[token] += reward
        return placed

    def _tokens(self, result: SampleScore, score: float, tokens: int, decode: Decode) -> list[tuple[int, float]]:
        if not result.step_scores:
            return [(tokens - 1, score)]
        share = len(result.step_scores) if self._divide else 1
        ends = step_ends(result.step_spans, tokens, decode)
        return [(end, one / share) for end, one in zip(ends, result.step_scores, strict=True)]


def _length(item: Any) -> int:  # noqa: ANN401
    """Tokens of the response; the agent loop says so, since it pads what follows the prompt and not the response."""
    said = item.non_tensor_batch.get("response_len")
    if said is not None:
        return int(said)
    return int(item.batch["attention_mask"][-item.batch["responses"].shape[-1] :].sum())


def _logs(result: SampleScore, score: float) -> dict[str, float]:
    steps = result.step_scores or (score,)
    return {"acc": score, "steps": float(len(steps)), "least_step": min(steps)}


def _check_placing(config: Any) -> None:  # noqa: ANN401
    """Raises InvalidCall where verl would put the whole score on the last token and not say so."""
    model = config.reward.get("reward_model") or {}
    streamed = not model.get("enable") or model.get("enable_resource_pool")
    agent: Mapping[str, object] = config.actor_rollout_ref.rollout.get("agent") or {}
    if streamed and not agent.get("agent_loop_manager_class"):
        raise InvalidCall(f"step rewards are placed by the agent loop: set {_LOOP}={_OURS}")
