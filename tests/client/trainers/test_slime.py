"""slime's custom reward function, with one sample and with a group, and its filter."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from steelyard.errors import InvalidCall
from steelyard.trainers import NotScored
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.slime import FILTER, has_every_score, reward
from tests.client.trainers.asked import CLOSE, CONTROL, LABEL, PICTURE, QUESTION, RESPONSES, scores


@dataclass
class SlimeSample:
    """slime's Sample, as far as it is read."""

    response: str
    prompt: Any = ""
    label: Any = None
    reward: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    multimodal_inputs: dict[str, Any] | None = None


def arguments(url: str, **more: Any) -> SimpleNamespace:  # noqa: ANN401
    return SimpleNamespace(steelyard={"url": url, "control_tokens": "refuse"}, **more)


async def rewards(args: SimpleNamespace, samples: Any) -> Any:  # noqa: ANN401
    try:
        return await reward(args, samples)
    finally:
        await scorer_of(args.steelyard).aclose()


@pytest.mark.parametrize(
    "asked",
    [
        {"label": LABEL},
        {"metadata": LABEL, "label": "circle"},
        {"prompt": [{"role": "user", "content": f"<image>\n{QUESTION}"}], "multimodal_inputs": {"images": [PICTURE]}},
        {
            "prompt": f"<|im_start|>user\n<|image_pad|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
            "multimodal_inputs": {"images": [PICTURE], "videos": None},
        },
    ],
)
async def test_a_group_and_a_sample_get_their_scores(url: str, asked: dict[str, Any]) -> None:
    group = [SlimeSample(text, **asked) for text in RESPONSES]
    assert await rewards(arguments(url), group) == pytest.approx(scores(url), abs=CLOSE)
    assert await rewards(arguments(url), group[0]) == pytest.approx(scores(url)[0], abs=CLOSE)


async def test_a_sample_without_a_score_is_an_exception(url: str) -> None:
    with pytest.raises(NotScored):
        await rewards(arguments(url), SlimeSample(CONTROL, label=LABEL))


async def test_with_the_filter_it_is_none_and_its_group_is_replaced(url: str) -> None:
    args = arguments(url, dynamic_sampling_filter_path=FILTER, partial_rollout=False)
    group = [SlimeSample(text, label=LABEL) for text in (RESPONSES[0], CONTROL)]
    for sample, value in zip(group, await rewards(args, group), strict=True):
        sample.reward = value
    assert [sample.reward is None for sample in group] == [False, True]
    assert not has_every_score(args, group)
    assert not has_every_score(args, [group[:1], group[1:]])
    assert has_every_score(args, group[:1])


async def test_a_partial_rollout_takes_samples_up_again_and_needs_every_reward(url: str) -> None:
    args = arguments(url, dynamic_sampling_filter_path=FILTER, partial_rollout=True)
    with pytest.raises(NotScored):
        await rewards(args, [SlimeSample(CONTROL, label=LABEL)])


async def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidCall, match="mapping"):
        await reward(SimpleNamespace(steelyard="http://a"), SlimeSample("x", label=LABEL))
