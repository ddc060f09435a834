"""Specifications as trainers call reward functions: TRL's, and verl's `compute_score`. Nothing of theirs is imported.

Where there is no reward, TRL gets None, which it leaves out, and verl an exception.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from steelyard.errors import InvalidCall
from steelyard.rewards.failures import RewardFailure, ScoreMissing
from steelyard.rewards.specification import Specification
from steelyard.trainers.completions import text_of_completion

_logger = logging.getLogger(__name__)


class RewardFunction:
    """Scores a batch of completions; give it to a trainer as one of its `reward_funcs`.

    The solution stands in `truth_column`. `served_columns` says for each served model of the specification in which
    column its scores stand. `name` is what TRL logs it under.
    """

    def __init__(
        self,
        specification: Specification,
        *,
        truth_column: str = "solution",
        served_columns: Mapping[str, str] | None = None,
        name: str = "verifiable",
    ) -> None:
        self.__name__ = name
        self._evaluate = specification.compile()
        self._truth_column = truth_column if specification.needs_truth else None
        self._served = dict(served_columns or {})
        missing = [model for model in specification.served_models if model not in self._served]
        if missing:
            raise InvalidCall(f"served_columns does not say where the scores of {', '.join(missing)} stand")

    def __call__(self, *, completions: Sequence[object], **columns: object) -> list[float | None]:
        """Called by TRL, by keyword. Raises InvalidCall for a column that is not there."""
        truths = self._column(columns, self._truth_column) if self._truth_column else [None] * len(completions)
        scores = {model: self._column(columns, column) for model, column in self._served.items()}
        totals: list[float | None] = []
        failed: RewardFailure | None = None
        for place, (completion, truth) in enumerate(zip(completions, truths, strict=True)):
            try:
                served = {model: _number(model, column[place]) for model, column in scores.items()}
                totals.append(self._evaluate(text_of_completion(completion), _text(truth), served).total)
            except RewardFailure as failure:
                failed = failed or failure
                totals.append(None)
        if failed is not None:
            _logger.warning("%d of %d have no reward: %s", totals.count(None), len(totals), failed)
        return totals

    def _column(self, columns: Mapping[str, object], name: str) -> Sequence[object]:
        if name not in columns:
            raise InvalidCall(f"the data set has no column {name!r}; it has {sorted(columns)}")
        return cast(Sequence[object], columns[name])


def compute_score_of(specification: Specification) -> Callable[..., dict[str, float]]:
    """verl's `compute_score`, whose `score` is the total and whose other entries are the terms' values.

    It raises RewardFailure. Scores of served models are `served` of `extra_info`.
    """
    evaluate = specification.compile()

    def compute_score(
        data_source: str,
        solution_str: str,
        ground_truth: str | None,
        extra_info: Mapping[str, object] | None = None,
        **_: object,
    ) -> dict[str, float]:
        served = cast(Mapping[str, float], (extra_info or {}).get("served") or {})
        found = evaluate(solution_str, _text(ground_truth), served)
        return {**found.parts, "score": found.total}

    return compute_score


def _text(truth: object) -> str | None:
    if truth is not None and not isinstance(truth, str):
        raise InvalidCall(f"a solution is a text, not {type(truth).__name__}")
    return truth


def _number(model: str, score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ScoreMissing(f"{model}: its score is {score!r}")
    return score
