"""Questions with a policy's candidate solutions: one JSON line a question."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field, StrictBool

from evaluation.aggregates import AGGREGATES
from evaluation.groups import Group
from evaluation.reading import find_pictures, name_items, read_items
from evaluation.records import Record, Result
from steelyard.schema import Aggregate

NO_FORM = "all"
Answer = str | int | float | None


class Solution(BaseModel):
    """One candidate: its steps, the answer that was read from it, and whether that is right."""

    steps: list[str] = Field(min_length=1)
    answer: Answer = None
    correct: StrictBool


class Question(BaseModel):
    """One line; `form` names the kind of question in the report."""

    id: str | int | None = None
    question: str
    image: str | list[str] | None = None
    answer: Answer = None
    form: str = NO_FORM
    candidates: list[Solution] = Field(min_length=1)


def read_questions(path: Path, images: Path | None) -> tuple[dict[str, Question], list[Group]]:
    """Questions by id and, in the same order, what is to be scored. Raises EvaluationError."""
    named = name_items(read_items(path, Question))
    groups = [
        Group(
            id,
            question.question,
            find_pictures(place, "image", question.image, images or path.parent),
            tuple(tuple(solution.steps) for solution in question.candidates),
        )
        for id, (place, question) in named.items()
    ]
    return {id: question for id, (_, question) in named.items()}, groups


def value_of(result: Result, aggregate: Aggregate) -> float | None:
    """The candidate's score, of step scores by the aggregate; None when it has none, which is never a 0."""
    if result.step_scores is not None:
        return AGGREGATES[aggregate](result.step_scores)
    return result.score


def scored_by_all(records: Sequence[Mapping[str, Record]], id: str) -> list[int]:
    """The candidates that every one of the models scored: the pool from which all of them choose."""
    results = [by_id[id].results for by_id in records]
    return [index for index, each in enumerate(zip(*results, strict=True)) if all(one.status == "ok" for one in each)]
