"""ms-swift's four forms of reward, for a plug-in of your own (`--external_plugins my_plugin.py`).

from swift.rewards import orms
from steelyard.trainers.swift import Reward

class MyReward(Reward):
    scorer = Scorer()

orms["steelyard"] = MyReward
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

from steelyard.errors import InvalidCall
from steelyard.trainers.picture_sources import listed
from steelyard.trainers.samples import QuestionLike, Sample, SampleScore, scores_of
from steelyard.trainers.scorer import Scorer

if __name__.startswith("_swift_external_"):
    # ms-swift puts a plug-in's folder before all others on the path, and this one has a `trl.py` and a `swift.py`.
    raise ImportError("this file is no plug-in: write one that imports it, as its beginning shows")


class InferRequest(Protocol):
    """What is read of swift's InferRequest."""

    messages: list[Mapping[str, object]]
    images: list[Any]


class Rewarding:
    """What the four forms share; set `scorer` in a class of your own."""

    scorer: ClassVar[Scorer]

    def __init__(self, args: object = None, **_: object) -> None:
        self.args = args

    def _scores(self, samples: Sequence[Sample]) -> list[float]:
        """Raises NotScored: swift would add a None up as 0."""
        return scores_of(self.scorer.score(samples))


class Reward(Rewarding):
    """For `orms`: training by GRPO (`--reward_funcs`), and sampling (`--orm_model`)."""

    def __call__(
        self, completions: Sequence[str | InferRequest | Mapping[str, object]], **columns: object
    ) -> list[float]:
        """Raises NotScored."""
        return self._scores(samples_of(completions, columns))


class AsyncReward(Rewarding):
    """The same beside other asynchronous rewards.

    It scores in a thread: swift makes an event loop for each batch, and connections and uploads would end with it.
    """

    async def __call__(
        self, completions: Sequence[str | InferRequest | Mapping[str, object]], **columns: object
    ) -> list[float]:
        """Raises NotScored."""
        return await asyncio.to_thread(self._scores, samples_of(completions, columns))


class StepReward(Rewarding):
    """For `prms`, by which `swift sample` chooses (`--prm_model`): scores of the steps, of which it takes the least.

    A model of outcomes gives one score instead.
    """

    def __call__(
        self, infer_requests: Sequence[InferRequest | Mapping[str, object]], **_: object
    ) -> list[float | list[float]]:
        """Raises NotScored."""
        results = self.scorer.score([_sample_of(_row(request)) for request in infer_requests])
        return [_of_steps(result, score) for result, score in zip(results, scores_of(results), strict=True)]


class RewardModelPlugin(Rewarding):
    """For `rm_plugins` (`--reward_model_plugin`), in the place of a model that swift would load and run itself."""

    def __init__(self, model: object = None, template: object = None, **_: object) -> None:
        super().__init__()

    def __call__(self, inputs: Sequence[Mapping[str, object]], **_: object) -> list[float]:
        """One number an input. Raises NotScored."""
        return self._scores([_sample_of(row) for row in inputs])


def samples_of(
    completions: Sequence[str | InferRequest | Mapping[str, object]], columns: Mapping[str, object]
) -> list[Sample]:
    """In training the columns hold the messages, with the completion as the last, and pictures; in sampling each
    completion is a whole request. Raises InvalidCall."""
    if all(isinstance(completion, str) for completion in completions):
        rows = _rows(columns, len(completions))
        texts = cast("Sequence[str]", completions)
        return [Sample(_asked(row), listed(row.get("images")), text) for text, row in zip(texts, rows, strict=True)]
    return [_sample_of(_row(cast("InferRequest | Mapping[str, object]", request))) for request in completions]


def _rows(columns: Mapping[str, object], count: int) -> list[Mapping[str, object]]:
    messages, images = columns.get("messages"), columns.get("images") or [None] * count
    if not isinstance(messages, Sequence) or not isinstance(images, Sequence):
        raise InvalidCall("a reward needs the column `messages`, and pictures in `images`")
    return [{"messages": said, "images": seen} for said, seen in zip(messages, images, strict=True)]


def _row(request: InferRequest | Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(request, Mapping):
        return request
    return {"messages": request.messages, "images": request.images}


def _sample_of(row: Mapping[str, object]) -> Sample:
    messages = cast("Sequence[Mapping[str, object]]", row["messages"])
    response = messages[-1].get("content") if messages else None
    if not isinstance(response, str) or messages[-1].get("role") != "assistant":
        raise InvalidCall("the last message of a row is the policy's, and a text")
    return Sample(_asked(row), listed(row.get("images")), response)


def _asked(row: Mapping[str, object]) -> QuestionLike:
    """The conversation without the policy's last word."""
    messages = cast("Sequence[Mapping[str, object]]", row["messages"])
    return messages[:-1] if messages and messages[-1].get("role") == "assistant" else messages


def _of_steps(result: SampleScore, score: float) -> float | list[float]:
    return list(result.step_scores) if result.step_scores else score
