"""Reading a request's body within a limit, and turning it into a request object."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import BodyTooLarge, InvalidRequest

Model = TypeVar("Model", bound=BaseModel)

_ERRORS_NAMED = 3


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge over `limit` bytes, having kept none of it."""
    declared = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"the body is larger than {limit} bytes")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def parse(model: type[Model], body: bytes) -> Model:
    """Raises InvalidRequest that names the fields at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(_describe(error)) from None


def _describe(error: ValidationError) -> str:
    """`field: what is wrong`, for the first few; the tags that pydantic puts in for a union are left out."""
    named: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"] if not _is_tag(part))
        reason = "unknown field" if item["type"] == "extra_forbidden" else item["msg"]
        named[place] = f"{named[place]}, or {reason}" if place in named else reason
    lines = [f"{place}: {reason}" if place else reason for place, reason in named.items()]
    more = len(lines) - _ERRORS_NAMED
    return "; ".join(lines[:_ERRORS_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and (part == "str" or "[" in part)
