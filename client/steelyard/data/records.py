"""What a data set is read as: records, each with the candidates that are to be scored, or why there are none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from steelyard.candidates import Candidate
from steelyard.errors import SteelyardError
from steelyard.pictures import Picture

Row: TypeAlias = Mapping[str, object]
PictureOrId: TypeAlias = Picture | str
Turn: TypeAlias = Mapping[str, object]
# What is asked: a question in a text, or a conversation.
Asked: TypeAlias = str | tuple[Turn, ...]


class BadRecord(SteelyardError):
    """A record that cannot be read or understood; `status` says in a word why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Record:
    """The data set's record number `index`, from 0, as the columns have it, or what is wrong with it."""

    index: int
    place: str
    row: Row | BadRecord


@dataclass(frozen=True, slots=True)
class Prompt:
    """What candidates answer; equal prompts have equal keys."""

    asked: Asked
    pictures: tuple[PictureOrId, ...]
    key: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate of a record; equal candidates to equal prompts have equal keys."""

    record: int
    number: int
    place: str
    prompt: Prompt
    candidate: Candidate
    key: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record without anything to score."""

    record: int
    place: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a candidate: a score, or a status that says why there is none."""

    status: str
    score: float | None = None
    retryable: bool = False
    detail: str | None = None
    step_scores: list[float] | None = field(default=None, repr=False)
    step_logits: list[float] | None = field(default=None, repr=False)
    step_spans: list[tuple[int, int]] | None = field(default=None, repr=False)
