"""verl's `compute_score`, below any of its managers that lets an exception be one.

`reward.custom_reward_function.path=pkg://steelyard.trainers.verl`; settings are its `reward_kwargs`.
"""

import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import cast

from steelyard.trainers.picture_sources import listed
from steelyard.trainers.questions import MARKER
from steelyard.trainers.samples import PictureSource, Sample, scores_of
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.told import Told, told_by

# They give a failure and a timeout the reward 0.0, and training goes on.
UNSAFE_MANAGERS = frozenset({"RateLimitedRewardManager"})


class UnsafeManager(BaseException):
    """No Exception, since the manager that calls would make a number of that."""


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, object] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
    **settings: object,
) -> dict[str, float]:
    """`{"score": …}`. The question and its pictures are `question` and `images` of `extra_info`, or a `raw_prompt`.

    Raises NotScored, and UnsafeManager below a manager that would make it 0.0.
    """
    _refuse_unsafe_manager()
    info = extra_info or {}
    results = await scorer_of(settings).ascore([sample_of(info, info.get("raw_prompt"), solution_str)])
    (score,) = scores_of(results)
    return {"score": score}


def sample_of(extra_info: Mapping[str, object], raw_prompt: object, response: str) -> Sample:
    """The response to what `extra_info` asks, else to the prompt's messages. Raises InvalidCall."""
    told = told_by(extra_info)
    turns = cast("Sequence[Mapping[str, object]]", [] if raw_prompt is None else raw_prompt)
    asked = [_marked(turn) for turn in turns]
    images = told.images or tuple(picture for _, shown in asked for picture in shown)
    if told.question is not None or not asked:
        return Sample(Told(told.question, images).asked(), images, response)
    return Sample([message for message, _ in asked], images, response)


def _marked(message: Mapping[str, object]) -> tuple[Mapping[str, object], list[PictureSource]]:
    """verl has cut the text at its markers: put together again, the line breaks stand where the data set had them."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, Sequence) else []
    shown = [picture for part in parts if part.get("type") == "image" for picture in listed(part.get("image", part))]
    if not shown:
        return message, []
    texts = [MARKER if part.get("type") == "image" else str(part.get("text") or "") for part in parts]
    return {"role": message.get("role"), "content": "".join(texts)}, shown


def _refuse_unsafe_manager() -> None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = type(frame.f_locals.get("self")).__name__
        if name in UNSAFE_MANAGERS:
            raise UnsafeManager(f"{name} gives what could not be scored the reward 0.0: use naive, dapo or gdpo")
        frame = frame.f_back
