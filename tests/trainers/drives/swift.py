"""ms-swift's plug-in loader, registries, reward computation and sampling, over a plug-in file."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from swift.pipelines.sampling.utils import get_reward
from swift.rewards import orms, prms, rm_plugins
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import compute_rewards_per_func
from swift.utils.utils import import_external_file

import steelyard.trainers.swift
from steelyard.trainers import NotScored
from tests.trainers.drives import expected

PLUGIN = """
from swift.rewards import orms, prms, rm_plugins
from steelyard.trainers import Options, Scorer
from steelyard.trainers.swift import AsyncReward, Reward, RewardModelPlugin, StepReward

STEPS, OUTCOMES = Scorer(), Scorer(options=Options(kind="outcome"))


class MyReward(Reward):
    scorer = STEPS


class MyAsyncReward(AsyncReward):
    scorer = OUTCOMES


class MySteps(StepReward):
    scorer = STEPS


class MyPlugin(RewardModelPlugin):
    scorer = OUTCOMES


orms.update(steelyard=MyReward, steelyard_async=MyAsyncReward)
prms["steelyard"] = MySteps
rm_plugins["steelyard"] = MyPlugin
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "my_plugin.py"
        path.write_text(PLUGIN)
        import_external_file(str(path))
    _check_training()
    _check_sampling()
    _check_failure()
    _check_own_file_is_refused()


def _check_training() -> None:
    functions = [orms["steelyard"](args=None), orms["steelyard_async"](args=None), torch.nn.Identity()]
    plugins = [None, None, rm_plugins["steelyard"](model=None, template=None)]
    for _ in range(2):
        rewards = compute_rewards_per_func(_samples(expected.RESPONSES), functions, plugins, torch.device("cpu"))
    expected.check_close(rewards[:, 0].tolist(), expected.scores(), "ORM")
    expected.check_close(rewards[:, 1].tolist(), expected.outcomes(), "AsyncORM, an event loop a batch")
    expected.check_close(rewards[:, 2].tolist(), expected.outcomes(), "reward-model plug-in")


def _check_sampling() -> None:
    requests = [{"messages": _messages(text), "images": [str(expected.PICTURE)]} for text in expected.RESPONSES]
    found, _ = get_reward(prms["steelyard"](), requests, ground_truths=["circle"] * 2, threshold=0.0)
    least = [min(result.step_scores or ()) for result in expected.steps()]
    expected.check_close(found.tolist(), least, "PRM, reduced by its minimum")
    found, _ = get_reward(orms["steelyard"](), requests, ground_truths=["circle"] * 2, threshold=0.0)
    expected.check_close(found.tolist(), expected.scores(), "ORM in sampling")


def _check_failure() -> None:
    samples, function = _samples([expected.RESPONSES[0], expected.TOO_LONG]), orms["steelyard"](args=None)
    try:
        compute_rewards_per_func(samples, [function], [None], torch.device("cpu"))
    except NotScored as error:
        assert list(error.unscored) == [1]
        print("  ok: without a score there is an exception")
    else:
        raise AssertionError("a missing reward went unnoticed")


def _check_own_file_is_refused() -> None:
    before = list(sys.path)
    try:
        import_external_file(steelyard.trainers.swift.__file__)
    except ImportError:
        print("  ok: the adapter's own file is refused as a plug-in")
    else:
        raise AssertionError(f"the path is now {sys.path[: len(sys.path) - len(before)]}")
    finally:
        sys.path[:] = before


def _samples(responses: list[str]) -> list[Any]:
    return [GRPOSample(messages=_messages(text), images=[str(expected.PICTURE)]) for text in responses]


def _messages(response: str) -> list[dict[str, str]]:
    asked = {"role": "user", "content": f"<image>\n{expected.QUESTION}"}
    return [asked, {"role": "assistant", "content": response}]


if __name__ == "__main__":
    assert "STEELYARD_URL" in os.environ
    main()
