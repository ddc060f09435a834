"""slime's custom reward function: `--custom-rm-path steelyard.trainers.slime.reward`, with or without `--group-rm`.

Settings are the mapping `steelyard` of the file that `--custom-config-path` names. With
`--dynamic-sampling-filter-path steelyard.trainers.slime.has_every_score` a group that lacks a score is replaced.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

from steelyard.errors import InvalidCall
from steelyard.trainers.chat_text import question_in
from steelyard.trainers.picture_sources import listed
from steelyard.trainers.samples import QuestionLike, Sample, SampleScore, scores_of
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.told import Told, told_by

FILTER = "steelyard.trainers.slime.has_every_score"


class SlimeSample(Protocol):
    """What is read of slime's Sample."""

    prompt: str | list[dict[str, Any]]
    response: str
    label: object
    reward: object
    metadata: dict[str, Any]
    multimodal_inputs: dict[str, Any] | None


Samples: TypeAlias = Sequence[SlimeSample]


async def reward(args: object, sample: SlimeSample | Samples, **_: object) -> float | list[float] | None:
    """The score of one sample, or of each of a group.

    Raises NotScored; where this module's filter is slime's, a sample without a score is None instead.
    """
    group = list(sample) if isinstance(sample, Sequence) else [sample]
    scorer = scorer_of(_settings(args))
    results = await scorer.ascore([sample_of(each) for each in group])
    rewards = _rewards(args, results)
    return cast("list[float]", rewards) if isinstance(sample, Sequence) else rewards[0]


def has_every_score(args: object, samples: Samples | Sequence[Samples], **_: object) -> bool:
    """A dynamic sampling filter: whether to keep a group. slime samples another one for each that is dropped."""
    flat = [each for one in samples for each in (one if isinstance(one, Sequence) else [one])]
    return all(each.reward is not None for each in flat)


def sample_of(sample: SlimeSample) -> Sample:
    """Question and pictures are those of the label or the metadata, else the prompt's. Raises InvalidCall."""
    told = told_by(sample.label)
    if told == Told():
        told = told_by(sample.metadata)
    if not told.images:
        told = Told(told.question, tuple(listed((sample.multimodal_inputs or {}).get("images"))))
    question = _question(sample.prompt) if told.question is None else told.asked()
    return Sample(question, told.images, sample.response)


def _question(prompt: object) -> QuestionLike:
    return question_in(prompt) if isinstance(prompt, str) else cast(QuestionLike, prompt)


def _rewards(args: object, results: Sequence[SampleScore]) -> list[float | None]:
    """A sample whose prompt is taken up again later must have its reward by then: no filter has seen it yet."""
    passed_over = getattr(args, "dynamic_sampling_filter_path", None) == FILTER
    if passed_over and not getattr(args, "partial_rollout", False):
        return [result.score for result in results]
    return list(scores_of(results))


def _settings(args: object) -> Mapping[str, object]:
    settings = getattr(args, "steelyard", None) or {}
    if not isinstance(settings, Mapping):
        raise InvalidCall("steelyard: a mapping of settings in the file of --custom-config-path")
    return settings
