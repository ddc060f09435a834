"""EasyR1's reward function, one input or a list: `worker.reward.reward_function=my_reward.py:compute_score`.

    from steelyard.trainers.easyr1 import compute_score

Its settings are `worker.reward.reward_function_kwargs`; the ground truth brings the question and the pictures.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast, overload

from steelyard.trainers.samples import Sample, scores_of
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.told import told_by

# How EasyR1 is told which of its two forms a function takes.
REWARD_NAME, REWARD_TYPE = "steelyard", "batch"


class RewardInput(TypedDict):
    """What EasyR1 knows about a response; `ground_truth` is `{"question": …, "images": […]}`, or its JSON."""

    response: str
    response_length: int
    ground_truth: object


class RewardScore(TypedDict):
    """`overall` is the reward."""

    overall: float


@overload
def compute_score(reward_input: RewardInput, **settings: object) -> RewardScore: ...
@overload
def compute_score(reward_input: Sequence[RewardInput], **settings: object) -> list[RewardScore]: ...
def compute_score(
    reward_input: RewardInput | Sequence[RewardInput], **settings: object
) -> RewardScore | list[RewardScore]:
    """Raises NotScored, which ends the run: EasyR1 has no way to pass a response over."""
    several = not isinstance(reward_input, Mapping)
    inputs = cast("list[RewardInput]", list(reward_input) if several else [reward_input])
    results = scorer_of(settings).score([_sample_of(each) for each in inputs])
    scores = [RewardScore(overall=score) for score in scores_of(results)]
    return scores if several else scores[0]


def _sample_of(reward_input: RewardInput) -> Sample:
    told = told_by(reward_input["ground_truth"])
    return Sample(told.asked(), told.images, reward_input["response"])
