"""Which columns hold the question, its pictures and its candidates, and what a row says by them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from steelyard.candidates import Candidate, text_of
from steelyard.data.records import Asked, BadRecord, Item, PictureOrId, Prompt, Record, Rejected, Row, Turn
from steelyard.errors import InvalidCall, InvalidPicture
from steelyard.pictures import load

_KEY_BYTES = 16
_MARKERS: Mapping[str, str] = {"steps": "<image>", "outcome": "<ImageHere>"}


@dataclass(frozen=True, slots=True)
class Columns:
    """One of `question` and `messages`; one of `response` and `candidates`, or neither: the last turn is the response.

    Pictures' paths are relative to `folder`.
    """

    kind: Literal["steps", "outcome"]
    folder: Path
    question: str | None = None
    messages: str | None = None
    images: str | None = None
    response: str | None = None
    candidates: str | None = None

    @property
    def names(self) -> list[str]:
        found = (self.question, self.messages, self.images, self.response, self.candidates)
        return [name for name in found if name is not None]

    @property
    def required(self) -> list[str]:
        return [name for name in self.names if name != self.images]

    def check(self, columns: Sequence[str]) -> None:
        """Raises InvalidCall for one that is missing, with the names that there are."""
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise InvalidCall(f"there is no column {missing[0]!r}; there are {', '.join(map(repr, columns)) or 'none'}")


@dataclass(slots=True)
class Reading:
    """Turns records into items; what the record before asked is kept, since its neighbours often ask the same."""

    columns: Columns
    _last: tuple[object, tuple[PictureOrId, ...]] = field(default=(None, ()), init=False, repr=False)
    _prompt: Prompt | None = field(default=None, init=False, repr=False)

    def items(self, record: Record) -> list[Item] | Rejected:
        """Every candidate of the record, or why it has none to score."""
        try:
            if isinstance(record.row, BadRecord):
                raise record.row
            asked, candidates = self._said(record.row)
            prompt = self._prompted(asked, self._pictures(record.row))
        except BadRecord as error:
            return Rejected(record.index, record.place, error.status, error.message)
        return [
            Item(record.index, number, record.place, prompt, candidate, _key(prompt, candidate))
            for number, candidate in enumerate(candidates)
        ]

    def _prompted(self, asked: Asked, pictures: tuple[PictureOrId, ...]) -> Prompt:
        last = self._prompt
        # Only a text: numbers in messages may be equal and be written otherwise.
        if last is None or not isinstance(asked, str) or last.asked != asked or last.pictures is not pictures:
            last = self._prompt = _prompt(asked, pictures)
        return last

    def _said(self, row: Row) -> tuple[Asked, list[Candidate]]:
        columns = self.columns
        missing = [name for name in columns.required if name not in row]
        if missing:
            raise BadRecord("missing_column", f"no column {missing[0]!r}; there are {', '.join(map(repr, row))}")
        if columns.messages is None:
            assert columns.question is not None
            asked: Asked = _text(row, columns.question)
        else:
            turns = turns_of(row[columns.messages], columns.messages, _MARKERS[columns.kind])
            if columns.response is None and columns.candidates is None:
                response, turns = _last_answer(turns, columns.messages)
                return self._question(turns), [response]
            asked = self._question(turns)
        return asked, [self._candidate(each) for each in candidates_of(row, columns)]

    def _question(self, turns: Sequence[Turn]) -> Asked:
        """A process reward model takes a question alone."""
        if self.columns.kind == "outcome":
            return tuple(turns)
        content = turns[0].get("content") if len(turns) == 1 and turns[0].get("role") == "user" else None
        if not isinstance(content, str):
            what = "to score steps takes one user turn of text before the answer"
            raise BadRecord("wrong_type", f"{self.columns.messages}: {what}")
        return content

    def _candidate(self, candidate: Candidate) -> Candidate:
        return candidate if self.columns.kind == "steps" else text_of(candidate)

    def _pictures(self, row: Row) -> tuple[PictureOrId, ...]:
        value = None if self.columns.images is None else row.get(self.columns.images)
        if value is None:
            return ()
        if self._last[0] != value:
            listed = value if isinstance(value, list | tuple) else [value]
            self._last = (value, tuple(_picture(each, self.columns.folder) for each in listed))
        return self._last[1]


def candidates_of(row: Row, columns: Columns) -> list[Candidate]:
    """The row's candidates as they stand there. Raises BadRecord."""
    if columns.response is not None:
        return [_checked(row[columns.response], columns.response)]
    assert columns.candidates is not None
    value = row[columns.candidates]
    if not isinstance(value, list) or not value:
        raise BadRecord("wrong_type", f"{columns.candidates}: a list of candidates, not {_named(value)}")
    return [_checked(each, columns.candidates) for each in value]


def spoken(row: Row, columns: Columns) -> tuple[object, list[Candidate]]:
    """The prompt as it stands in the row, and the candidates: of a record that was scored."""
    if columns.messages is None:
        return row[columns.question or ""], candidates_of(row, columns)
    messages = row[columns.messages]
    assert isinstance(messages, list)
    if columns.response is None and columns.candidates is None:
        return messages[:-1], [str(turns_of(messages, columns.messages, "")[-1]["content"])]
    return messages, candidates_of(row, columns)


def turns_of(value: object, column: str, marker: str) -> list[Turn]:
    """Messages as the wire takes them; what a part `{"type": "image"}` stands for becomes a marker."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
        raise BadRecord("wrong_type", f"{column}: a list of messages, not {_named(value)}")
    return [{"role": turn.get("role"), "content": _content(turn.get("content"), column, marker)} for turn in value]


def _content(content: object, column: str, marker: str) -> object:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise BadRecord("wrong_type", f"{column}: a message's content is a text or a list of parts")
    # Arrow gives every part the fields of all parts.
    parts = [{name: value for name, value in part.items() if value is not None} for part in content]
    texts = [marker if part.get("type") == "image" else part.get("text") for part in parts]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else parts


def _last_answer(turns: list[Turn], column: str) -> tuple[str, list[Turn]]:
    content = turns[-1].get("content")
    if turns[-1].get("role") != "assistant" or not isinstance(content, str):
        raise BadRecord("wrong_type", f"{column}: without a column of responses the last turn is an assistant's text")
    return content, turns[:-1]


def _picture(value: object, folder: Path) -> PictureOrId:
    """A path, bytes, datasets' `{"bytes", "path"}`, a data URL or an id."""
    if isinstance(value, Mapping) and {"bytes", "path"} & set(value):
        value = value.get("path") if value.get("bytes") is None else value.get("bytes")
    if not isinstance(value, str | bytes):
        raise BadRecord("wrong_type", f"a picture is a path, bytes, a data URL or an id, not {_named(value)}")
    is_path = isinstance(value, str) and not value.lower().startswith(("data:", "sha256:", "http:", "https:"))
    try:
        return load(folder / value if is_path and isinstance(value, str) else value)
    except InvalidPicture as error:
        raise BadRecord("bad_picture", error.message) from None


def _prompt(asked: Asked, pictures: tuple[PictureOrId, ...]) -> Prompt:
    ids = [picture if isinstance(picture, str) else picture.id for picture in pictures]
    try:
        text = json.dumps([asked, ids], allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise BadRecord("wrong_type", "a message holds what JSON cannot") from None
    size = sum(len(picture.content) for picture in pictures if not isinstance(picture, str))
    return Prompt(asked, pictures, _digest(text), size + len(text))


def _key(prompt: Prompt, candidate: Candidate) -> bytes:
    return _digest(prompt.key.hex() + json.dumps(candidate))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_KEY_BYTES]


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise BadRecord("wrong_type", f"{column}: a text, not {_named(value)}")
    return value


def _checked(value: object, column: str) -> Candidate:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(step, str) for step in value):
        return value
    raise BadRecord("wrong_type", f"{column}: a candidate is a text or a list of steps, not {_named(value)}")


def _named(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}" + ("" if value else " that is empty")
