"""A reward function for TRL's GRPOTrainer and RLOOTrainer (1.16); what has no score is None, which they leave out."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from steelyard.errors import InvalidCall
from steelyard.retry import Retry
from steelyard.trainers.completions import text_of_completion
from steelyard.trainers.options import Options
from steelyard.trainers.picture_sources import listed
from steelyard.trainers.samples import QuestionLike, Sample, SampleScore
from steelyard.trainers.scorer import MAX_CONCURRENCY, Scorer

LogExtra = Callable[[str, list[str]], None]
LogMetric = Callable[[str, float], None]
_IMAGE_COLUMNS = ("images", "image")


class RewardFunction:
    """Scores a batch of completions; give it to a trainer as one of its `reward_funcs`.

    The question is the prompt, or what stands in `question_column`; the pictures are those in the prompt's parts, else
    those of `image_column` (by default `images` or `image`). `name` is what TRL logs it under. The rest is Scorer's.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        options: Options | None = None,
        name: str = "steelyard",
        question_column: str | None = None,
        image_column: str | None = None,
        api_key: str | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.__name__ = name
        self.scorer = Scorer(
            url, api_key=api_key, options=options, max_concurrency=max_concurrency, retry=retry, timeout_s=timeout_s
        )
        self._question_column = question_column
        self._image_column = image_column

    def __call__(
        self,
        *,
        prompts: Sequence[QuestionLike],
        completions: Sequence[object],
        completion_ids: object = None,
        trainer_state: object = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        environments: object = None,
        **columns: Sequence[object],
    ) -> list[float | None]:
        """Called by TRL, by keyword. Raises what Scorer.score raises, which ends the run."""
        results = self.scorer.score(self._samples(prompts, completions, columns))
        return self._logged(results, log_extra, log_metric)

    def _samples(
        self, prompts: Sequence[QuestionLike], completions: Sequence[object], columns: Mapping[str, Sequence[object]]
    ) -> list[Sample]:
        questions, images = prompts, self._images(columns)
        if self._question_column is not None:
            questions = cast(Sequence[QuestionLike], _column(columns, self._question_column))
        return [
            Sample(question, listed(images[place]) if images is not None else [], text_of_completion(completion))
            for place, (question, completion) in enumerate(zip(questions, completions, strict=True))
        ]

    def _images(self, columns: Mapping[str, Sequence[object]]) -> Sequence[object] | None:
        if self._image_column is not None:
            return _column(columns, self._image_column)
        return next((columns[name] for name in _IMAGE_COLUMNS if name in columns), None)

    def _logged(
        self, results: Sequence[SampleScore], log_extra: LogExtra | None, log_metric: LogMetric | None
    ) -> list[float | None]:
        """The rewards, with the share of what has none among TRL's metrics and the reasons among its completions."""
        scores = [result.score for result in results]
        if log_metric is not None and scores:
            log_metric(f"{self.__name__}/unscored", scores.count(None) / len(scores))
        if log_extra is not None:
            log_extra(f"{self.__name__}_status", [result.reason for result in results])
        return scores


class AsyncRewardFunction(RewardFunction):
    """The same for TRL's event loop, where it runs beside other async reward functions."""

    async def __call__(  # type: ignore[override]
        self,
        *,
        prompts: Sequence[QuestionLike],
        completions: Sequence[object],
        completion_ids: object = None,
        trainer_state: object = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        environments: object = None,
        **columns: Sequence[object],
    ) -> list[float | None]:
        """Awaited by TRL, by keyword. Raises what Scorer.ascore raises, which ends the run."""
        results = await self.scorer.ascore(self._samples(prompts, completions, columns))
        return self._logged(results, log_extra, log_metric)


def _column(columns: Mapping[str, Sequence[object]], name: str) -> Sequence[object]:
    if name not in columns:
        raise InvalidCall(f"the data set has no column {name!r}; it has {sorted(columns)}")
    return columns[name]
