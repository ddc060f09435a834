"""JSON Lines and JSON arrays as typed items, every mistake named by file, line and field."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from evaluation.errors import EvaluationError

Item = TypeVar("Item", bound=BaseModel)
_FIELDS_NAMED = 3


def read_items(path: Path, kind: type[Item]) -> list[tuple[str, Item]]:
    """(place, item) in the file's order, a place being `file:line`. Raises EvaluationError, also for an empty file."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise EvaluationError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    items = [(place, _validated(place, value, kind)) for place, value in _values(path, content)]
    if not items:
        raise EvaluationError(f"{path}: it holds no items")
    return items


def name_items(items: Sequence[tuple[str, Item]]) -> dict[str, tuple[str, Item]]:
    """Items by their `id`, or by their position where they have none. Raises EvaluationError for a repeated one."""
    named: dict[str, tuple[str, Item]] = {}
    for position, (place, item) in enumerate(items):
        given = getattr(item, "id", None)
        name = str(position) if given is None else str(given)
        if name in named:
            raise EvaluationError(f"{place}: id: {name!r} is also the id of {named[name][0]}")
        named[name] = (place, item)
    return named


def find_pictures(place: str, field: str, names: str | Sequence[str] | None, folder: Path) -> tuple[Path, ...]:
    """The files of an item's pictures, relative names below `folder`. Raises EvaluationError for a missing one."""
    listed = () if names is None else (names,) if isinstance(names, str) else names
    paths = tuple(folder / name for name in listed)
    for path in paths:
        if not path.is_file():
            raise EvaluationError(f"{place}: {field}: there is no picture {path}")
    return paths


def _values(path: Path, content: bytes) -> Iterator[tuple[str, object]]:
    if content.lstrip().startswith(b"["):
        array = _parsed(str(path), content)
        assert isinstance(array, list)
        yield from ((f"{path}: item {index}", value) for index, value in enumerate(array))
        return
    # Only \n ends a line: JSON may hold every other separator unescaped.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _parsed(f"{path}:{number}", line)


def _parsed(place: str, text: bytes) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise EvaluationError(f"{place}: not JSON at {where}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise EvaluationError(f"{place}: not JSON: {' '.join(str(error).split())}") from None


def _validated(place: str, value: object, kind: type[Item]) -> Item:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        named = [": ".join(filter(None, (_field(one["loc"]), _reason(one["msg"])))) for one in mistakes]
        raise EvaluationError(f"{place}: {'; '.join(list(dict.fromkeys(named))[:_FIELDS_NAMED])}") from None


def _field(location: tuple[int | str, ...]) -> str:
    """`response.steps.0`; which member of a union was tried is left out."""
    shown = [str(part) for part in location if not (isinstance(part, str) and (part == "str" or "[" in part))]
    return ".".join(shown)


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
