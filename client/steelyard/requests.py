"""From a caller's arguments to a request that the wire allows, or a clear word on why it does not."""

import base64
import math
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from steelyard.errors import InvalidCall
from steelyard.exchange import Send
from steelyard.pictures import Picture
from steelyard.rank_schema import RankRequest
from steelyard.schema import ScoreRequest, WireRequest

JSON = "application/json"
_MISTAKES_NAMED = 3
# The server's own deadlines, and how much longer than them an answer may take before the attempt is given up.
_DEADLINE_S = {"online": 30.0, "train": 900.0, "batch": math.inf}
_GRACE_S = 30.0
# Where the wire names pictures: a text elsewhere that looks like an id is a text.
_PICTURE_FIELDS = frozenset({"images", "url", "frames"})

Weighed: TypeAlias = ScoreRequest | RankRequest
Request = TypeVar("Request", bound=WireRequest)
Built = TypeVar("Built", bound=WireRequest)


def build(kind: type[Built], /, **fields: object) -> Built:
    """Raises InvalidCall that names the fields at fault."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InvalidCall(describe(error)) from None


def post(path: str, request: Weighed, timeout_s: float | None) -> Send:
    """Raises InvalidCall for text that is not Unicode and for a timeout of 0."""
    check_timeout(timeout_s)
    return Send("POST", path, attempt_s(request, timeout_s), content_of(request), JSON)


def content_of(request: WireRequest) -> bytes:
    """A body. Raises InvalidCall for text that is not Unicode."""
    try:
        return request.model_dump_json(exclude_none=True).encode()
    except PydanticSerializationError:
        raise InvalidCall("a text holds half of a surrogate pair, which is no Unicode character") from None


def with_contents(request: Request, pictures: Mapping[str, Picture]) -> Request:
    """The same request with these pictures' bytes in place of their ids."""
    return type(request).model_validate(_inlined(request.model_dump(), pictures, ""))


def _inlined(value: object, pictures: Mapping[str, Picture], field: str) -> object:
    if isinstance(value, dict):
        return {name: _inlined(inner, pictures, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_inlined(inner, pictures, field) for inner in value]
    if field in _PICTURE_FIELDS and isinstance(value, str) and value in pictures:
        return base64.b64encode(pictures[value].content).decode()
    return value


def check_timeout(timeout_s: float | None) -> None:
    """Raises InvalidCall for what is no length of time."""
    if timeout_s is not None and not timeout_s > 0:
        raise InvalidCall(f"timeout_s: {timeout_s!r} is not more than 0; math.inf is no limit")


def attempt_s(request: Weighed, timeout_s: float | None) -> float:
    """How long one attempt may take: what the caller says, else the server's deadline and some grace."""
    if timeout_s is not None:
        return timeout_s
    own_s = _DEADLINE_S[request.priority] if request.deadline_ms is None else request.deadline_ms / 1000
    return own_s + _GRACE_S


def describe(error: ValidationError) -> str:
    """`field: what is wrong` for the first few; which member of a union was tried is left out."""
    named: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        kept = [str(part) for part in item["loc"] if not (isinstance(part, str) and (part == "str" or "[" in part))]
        named.setdefault(".".join(kept), item["msg"].removeprefix("Value error, "))
    lines = [f"{place}: {reason}" if place else reason for place, reason in named.items()]
    more = len(lines) - _MISTAKES_NAMED
    return "; ".join(lines[:_MISTAKES_NAMED]) + (f"; and {more} more" if more > 0 else "")
