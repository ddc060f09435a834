"""OpenRLHF's `reward_func(queries, prompts, labels)`, for `--reward.remote_url my_reward.py`.

from steelyard.trainers.openrlhf import RewardFunction
reward_func = RewardFunction(Scorer())
"""

import math
from collections.abc import Sequence
from importlib import import_module

from steelyard.trainers.chat_text import question_in, response_in
from steelyard.trainers.samples import Sample, SampleScore, scores_of
from steelyard.trainers.scorer import Scorer
from steelyard.trainers.told import told_by


class RewardFunction:
    """Scores what the policy said to its prompt; the pictures travel in the label: `{"images": […]}` or its JSON.

    The question is the label's, when it names one, else the turns of the prompt.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[object]) -> dict[str, object]:
        """`rewards` and `scores`, tensors (queries,), and `extra_logs`. Scores lie in 0..1, for dynamic filtering.

        Raises NotScored: OpenRLHF logs it and leaves the reward None, on which the training step then stops.
        """
        samples = [sample_of(*each) for each in zip(queries, prompts, labels, strict=True)]
        results = self._scorer.score(samples)
        rewards = scores_of(results)
        in_unit = rewards if self._scorer.options.kind == "steps" else [_sigmoid(reward) for reward in rewards]
        # By its name: the client does without it, and OpenRLHF does not.
        tensor = import_module("torch").tensor
        logs = {name: tensor(values) for name, values in _logs(results).items()}
        return {"rewards": tensor(rewards), "scores": tensor(in_unit), "extra_logs": logs}


def sample_of(query: str, prompt: str, label: object) -> Sample:
    """Raises InvalidCall for a chat that cannot be told apart."""
    told = told_by(label)
    question = question_in(prompt) if told.question is None else told.asked()
    return Sample(question, told.images, response_in(query, prompt))


def _logs(results: Sequence[SampleScore]) -> dict[str, list[float]]:
    if not all(result.step_scores for result in results):
        return {}
    return {
        "steps": [float(len(result.step_scores)) for result in results],
        "least_step": [min(result.step_scores) for result in results],
    }


def _sigmoid(score: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * score))
