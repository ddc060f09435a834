"""verl's loaders, reward-loop workers and managers, and the v1 trainer's agent loop, over both of its adapters."""

import asyncio
import pickle
import tempfile
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import verl.trainer.ppo.v1.agent_loop_tq as agent_loop_tq
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.trainer.ppo.reward import load_reward_manager, resolve_reward_manager_cls

from steelyard.errors import InvalidCall
from steelyard.trainers import NotScored
from steelyard.trainers.verl import UnsafeManager
from steelyard.trainers.verl_agent_loop import StepAgentLoopManager, StepAgentLoopWorker
from steelyard.trainers.verl_tokens import StepReward
from tests.trainers.drives import expected
from tests.trainers.drives.policy_tokenizer import policy_tokenizer

PROMPT_TOKENS = 7
_RAW_PROMPT = [
    {
        "role": "user",
        "content": [
            {"type": "image", "image": str(expected.PICTURE)},
            {"type": "text", "text": f"\n{expected.QUESTION}"},
        ],
    }
]
_FUNCTION = [
    "reward.custom_reward_function.path=pkg://steelyard.trainers.verl",
    "+reward.custom_reward_function.reward_kwargs.kind=outcome",
]
_STEPS = [
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.name=StepRewardManager",
    "reward.reward_manager.module.path=pkg://steelyard.trainers.verl_steps",
    "+reward.steelyard.kind=steps",
    "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=steelyard.trainers.verl_agent_loop.StepAgentLoopManager",
]


def main() -> None:
    tokenizer = policy_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        asyncio.run(_check_function(folder, tokenizer))
        asyncio.run(_check_unsafe_manager(folder, tokenizer))
        _check_placing_is_asked_for(folder, tokenizer)
        asyncio.run(_check_steps(folder, tokenizer))


async def _check_function(folder: str, tokenizer: Any) -> None:  # noqa: ANN401
    for manager in ("naive", "dapo"):
        worker = RewardLoopWorker(_config(folder, *_FUNCTION, f"reward.reward_manager.name={manager}"))
        results = await worker.compute_score_batch(_batch(tokenizer, expected.RESPONSES))
        found = [result["reward_score"] for result in results]
        expected.check_close(found, expected.outcomes(), f"compute_score below {manager}, from pkg://")
    try:
        await worker.compute_score_batch(_batch(tokenizer, [expected.TOO_LONG]))
    except NotScored:
        print("  ok: without a score there is an exception")
    else:
        raise AssertionError("a missing reward went unnoticed")


async def _check_unsafe_manager(folder: str, tokenizer: Any) -> None:  # noqa: ANN401
    config = _config(folder, *_FUNCTION, "reward.reward_manager.name=rate_limited")
    try:
        found = await load_reward_manager(config, tokenizer).run_single(_batch(tokenizer, expected.RESPONSES[:1]))
    except UnsafeManager:
        print("  ok: below rate_limited, which would make failures 0.0, nothing is scored")
    else:
        raise AssertionError(found)


def _check_placing_is_asked_for(folder: str, tokenizer: Any) -> None:  # noqa: ANN401
    try:
        load_reward_manager(_config(folder, *_STEPS[:-1]), tokenizer)
    except InvalidCall:
        print("  ok: step rewards that verl would not place are refused at the start")
    else:
        raise AssertionError("verl would put the whole score on the last token")


async def _check_steps(folder: str, tokenizer: Any) -> None:  # noqa: ANN401
    config, batch = _config(folder, *_STEPS), _batch(tokenizer, expected.RESPONSES)
    worker = RewardLoopWorker(config)
    wanted = [_on_bytes(result.step_spans, result.step_scores, text) for result, text in _scored()]
    results = await worker.compute_score_batch(batch)
    # As the reward-loop manager does with what its workers sent by Ray.
    scores = [pickle.loads(pickle.dumps(result["reward_score"])) for result in results]
    placed = resolve_reward_manager_cls(config).assemble_rm_scores(batch, scores)
    for row, rewards in zip(placed, wanted, strict=True):
        expected.check_close(row[: len(rewards)].tolist(), rewards, "step rewards of the reward-loop workers")
    for text, rewards in zip(expected.RESPONSES, wanted, strict=True):
        row = await _row(worker, tokenizer, text)
        expected.check_close(row["rm_scores"].tolist(), rewards, "step rewards in a row of the v1 trainer")
        assert row["extra_fields"]["reward_extra_info"]["steps"] == sum(map(bool, rewards)), row["extra_fields"]
        assert "token_rewards" not in row
    loop = StepAgentLoopManager(config, llm_client=None)
    assert loop.agent_loop_workers_class.__ray_metadata__.class_name == "StepAgentLoopWorker"


async def _row(rewards: RewardLoopWorker, tokenizer: Any, text: str) -> Any:  # noqa: ANN401
    """What a worker of the agent loop puts into the queue of the v1 trainer for a response; no Ray in between."""
    worker = object.__new__(StepAgentLoopWorker)
    worker.reward_loop_worker_handles = [SimpleNamespace(compute_score=SimpleNamespace(remote=rewards.compute_score))]
    worker.processor, worker.distillation_enabled, worker.mm_processor_kwargs = None, False, {}
    output = AgentLoopOutput(
        prompt_ids=[1] * PROMPT_TOKENS,
        response_ids=(ids := tokenizer(text)["input_ids"]),
        response_mask=[1] * len(ids),
        metrics=AgentLoopMetrics(),
    )
    rows: list[Any] = []

    async def keep(fields: Any, **_: object) -> None:  # noqa: ANN401
        rows.append(fields)

    agent_loop_tq.tq = SimpleNamespace(async_kv_batch_put=keep)
    agent_loop_tq.list_of_dict_to_tensordict = lambda fields: fields
    named = {"uid": "0", "session_id": 0, "global_steps": 0, "data_source": "demo", "extra_info": {}}
    await worker._agent_loop_postprocess(
        output, False, **named, raw_prompt=_RAW_PROMPT, reward_model={"ground_truth": "circle"}
    )
    return rows[0][0]


def _scored() -> list[tuple[Any, str]]:
    return list(zip(expected.steps(), expected.RESPONSES, strict=True))


def _on_bytes(spans: Any, scores: Any, text: str) -> list[float]:  # noqa: ANN401
    """The policy's tokens are bytes and the responses ASCII, so a step ends on the byte before its span's end."""
    rewards = [0.0] * len(text.encode())
    for (_, end), score in zip(spans, scores, strict=True):
        rewards[end - 1] += score / len(scores)
    return rewards


def _config(folder: str, *overrides: str) -> Any:  # noqa: ANN401
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [f"actor_rollout_ref.model.path={folder}", *overrides])


def _batch(tokenizer: Any, responses: list[str]) -> DataProto:  # noqa: ANN401
    ids = [torch.tensor(tokenizer(text)["input_ids"]) for text in responses]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    prompts = torch.ones(len(ids), PROMPT_TOKENS, dtype=torch.long)
    batch = TensorDict(
        {"prompts": prompts, "responses": padded, "attention_mask": torch.cat([prompts, mask], dim=1)}, len(ids)
    )
    beside: dict[str, list[Any]] = {
        "data_source": ["demo"] * len(ids),
        "reward_model": [{"ground_truth": "circle"} for _ in ids],
        "extra_info": [{"question": f"<image>\n{expected.QUESTION}", "images": [str(expected.PICTURE)]} for _ in ids],
        "raw_prompt": [_RAW_PROMPT for _ in ids],
    }
    arrays = {name: _objects(values) for name, values in beside.items()}
    return DataProto(batch=batch, non_tensor_batch=arrays)


def _objects(values: list[Any]) -> Any:  # noqa: ANN401
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


if __name__ == "__main__":
    assert issubclass(StepReward, float)
    main()
