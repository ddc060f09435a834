"""A run as its caller asks for it, and what that means for this data set and this server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from steelyard.client import MAX_CONCURRENCY, AsyncClient
from steelyard.data import forms
from steelyard.data.columns import Columns, Reading
from steelyard.data.forms import Form
from steelyard.data.records import Item, Record, Rejected
from steelyard.data.scorer import Scoring
from steelyard.data.selection import Selection
from steelyard.data.sources import Source, Survey
from steelyard.data.writers import Format
from steelyard.errors import InvalidCall
from steelyard.retry import Retry
from steelyard.schema import Aggregate, ControlTokens
from steelyard.served import choose as choose_model

Engine = Literal["local", "ray"]
# A server that restarts or has too much to do is waited for; one that is gone ends the run, which can be resumed.
_RETRY = Retry(max_retries=40)
_PICTURES = ("images", "image")


@dataclass(frozen=True, slots=True)
class Filtering:
    """What the options of `steelyard filter` say; docs/filtering.md has every one."""

    input: str
    output: str
    url: str | None = None
    model: str | None = None
    question: str | None = None
    messages: str | None = None
    response: str | None = None
    candidates: str | None = None
    images: str | None = None
    images_root: str | None = None
    no_images: bool = False
    form: Form = "records"
    format: Format | None = None
    prefix: str = ""
    selection: Selection = field(default_factory=Selection)
    margin: float = 0.0
    label_threshold: float = 0.5
    max_tiles: int | None = None
    max_steps: int | None = None
    aggregate: Aggregate | None = None
    control_tokens: ControlTokens = "parse"
    skip_bad: bool = False
    resume: bool = False
    overwrite: bool = False
    engine: Engine = "local"
    workers: int = 1
    concurrency: int = MAX_CONCURRENCY
    timeout_s: float | None = None

    def client(self) -> AsyncClient:
        return AsyncClient(self.url, max_concurrency=self.concurrency, retry=_RETRY, timeout_s=self.timeout_s)


@dataclass(frozen=True, slots=True)
class Task:
    """The run once the data set and the server have been looked at."""

    asked: Filtering
    source: Source
    survey: Survey
    columns: Columns
    scoring: Scoring

    @property
    def settings(self) -> dict[str, str]:
        """What the scores depend on: a resumed run has the same."""
        columns = ("question", "messages", "images", "response", "candidates")
        return {
            "input": self.survey.fingerprint,
            **{name: str(getattr(self.columns, name)) for name in columns},
            **{each.name: str(getattr(self.scoring, each.name)) for each in fields(self.scoring)},
        }

    @property
    def choice(self) -> dict[str, str]:
        """What is kept of the scores, and how it is written; a resumed run may change it."""
        asked, kept = self.asked, self.asked.selection
        own = {name: str(getattr(asked, name)) for name in ("form", "prefix", "margin", "label_threshold")}
        return own | {each.name: str(getattr(kept, each.name)) for each in fields(kept)}

    @property
    def has_probabilities(self) -> bool:
        """Whether a score lies between 0 and 1."""
        return self.scoring.kind == "steps" and self.scoring.aggregate != "sum"

    def reader(self) -> Callable[[Record], list[Item] | Rejected]:
        """From a record to its candidates; a bad record ends the run with an InvalidCall, unless they are skipped."""
        reading = Reading(self.columns)

        def strict(record: Record) -> list[Item] | Rejected:
            found = reading.items(record)
            if isinstance(found, Rejected):
                raise InvalidCall(f"{self.asked.input}, {found.place}: {found.detail}; --skip-bad goes on without it")
            return found

        return reading.items if self.asked.skip_bad else strict


def prepare(asked: Filtering, source: Source, survey: Survey) -> Task:
    """Raises InvalidCall for options that do not go with each other, the data set or the served model."""
    scoring = asyncio.run(_served(asked))
    if scoring.kind == "outcome" and (asked.aggregate or asked.max_steps or asked.form == "step-labels"):
        raise InvalidCall(f"{scoring.model} scores whole answers: there are no steps to aggregate, merge or label")
    if asked.form == "pairs" and (asked.selection.top is not None or asked.selection.deduplicate):
        raise InvalidCall("a pair is the best and the worst of a question: --top and --deduplicate have no place")
    columns = _columns(asked, source, survey, scoring)
    columns.check(survey.columns)
    taken = [name for name in forms.added_names(columns, asked.prefix) if name in survey.columns]
    if asked.form == "records" and taken:
        raise InvalidCall(f"the data set has a column {taken[0]!r} already: give a --prefix for those that are added")
    return Task(asked, source, survey, columns, scoring)


async def _served(asked: Filtering) -> Scoring:
    async with asked.client() as client:
        model = choose_model((await client.models()).data, asked.model)
    options = (asked.max_tiles, asked.control_tokens, asked.aggregate or "mean", asked.max_steps)
    return Scoring(model.kind, model.name, model.provenance.weights, *options)


def _columns(asked: Filtering, source: Source, survey: Survey, scoring: Scoring) -> Columns:
    if asked.question is not None and asked.messages is not None:
        raise InvalidCall("--question or --messages: only one of them")
    if asked.response is not None and asked.candidates is not None:
        raise InvalidCall("--response or --candidates: only one of them")
    if asked.images is not None and asked.no_images:
        raise InvalidCall("--images or --no-images: only one of them")
    found = next((name for name in _PICTURES if name in survey.columns), None)
    has_answers = asked.response or asked.candidates or asked.messages
    return Columns(
        kind=scoring.kind,
        folder=source.folder if asked.images_root is None else Path(asked.images_root),
        question=None if asked.messages else asked.question or "question",
        messages=asked.messages,
        images=None if asked.no_images else asked.images or found,
        response=asked.response if has_answers else "response",
        candidates=asked.candidates,
    )
