"""verl's agent loop with step rewards where StepRewardManager placed them; by itself it keeps one number a response.

`+actor_rollout_ref.rollout.agent.agent_loop_manager_class=steelyard.trainers.verl_agent_loop.StepAgentLoopManager`
"""

from typing import Any

import ray
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from steelyard.trainers.verl_tokens import StepReward


class StepAgentLoopOutput(AgentLoopOutput):  # type: ignore[misc]
    """A response whose row has its rewards on its tokens."""

    token_rewards: tuple[tuple[int, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """verl's own row; `rm_scores` (response tokens)."""
        row: dict[str, Any] = super().as_dict()
        row["rm_scores"].zero_()
        for token, reward in row.pop("token_rewards"):
            row["rm_scores"][token] += reward
        return row


# The class below the decorator of Ray.
class StepAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class.__ray_actor_class__):  # type: ignore[misc]
    """Keeps what the reward manager knows of a response's tokens."""

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        await super()._compute_score(outputs, kwargs)
        outputs[-1] = with_token_rewards(outputs[-1])


class StepAgentLoopManager(AgentLoopManagerTQ):  # type: ignore[misc]
    """The v1 trainer's manager with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(StepAgentLoopWorker)


def with_token_rewards(output: AgentLoopOutput) -> AgentLoopOutput:
    """The same response, with the places of its rewards when its score knows them."""
    score = output.reward_score
    if not isinstance(score, StepReward):
        return output
    # What was put into the default of extra_fields is not among the fields that were set.
    known = {name: getattr(output, name) for name in output.model_fields_set | {"extra_fields"}}
    return StepAgentLoopOutput(**known | {"reward_score": float(score), "token_rewards": score.tokens})
