"""Reading a request's body within a limit, and turning it into a request object."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import BodyTimeout, BodyTooLarge, InvalidRequest, Overloaded
from service.unpacking import outweighs

Model = TypeVar("Model", bound=BaseModel)
Parsed = TypeVar("Parsed")

_ERRORS_NAMED = 3
_LONGEST_NAME = 100
_IDLE_S = 30.0
# A body of the permitted size could become gigabytes of empty objects, in tens of seconds.
_MOST_UNPACKED_BYTES = 256 * 2**20
_LONG_BODY = 2**18


class Bodies:
    """The bodies of all the calls under way, so that many large ones cannot fill the memory."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, counted while this is open.

        Raises BodyTooLarge over `limit` bytes, Overloaded when other calls' bodies take the room, and BodyTimeout.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            try:
                async with asyncio.timeout(_IDLE_S) as patience:
                    async for part in request.stream():
                        parts.append(part)
                        size += len(part)
                        self._bytes += len(part)
                        self._check(size, limit)
                        patience.reschedule(asyncio.get_running_loop().time() + _IDLE_S)
            except TimeoutError:
                raise BodyTimeout(f"no more of the body came for {_IDLE_S:.0f} s") from None
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self._bytes -= size

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            raise _too_large(limit)
        if self._bytes > self._budget_bytes:
            raise Overloaded("too many large calls are under way; try again shortly")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")


async def parse(model: type[Model], body: bytes) -> Model:
    """Raises InvalidRequest that names the fields at fault."""
    return await parse_by(partial(parse_bytes, model), body)


async def parse_by(reading: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """A long body is parsed on a thread. Raises what `reading` does."""
    if len(body) > _LONG_BODY:
        return await asyncio.to_thread(reading, body)
    return reading(body)


def check_weight(body: bytes) -> None:
    """Raises InvalidRequest for a body that would unpack into far more memory than it takes."""
    if outweighs(body, _MOST_UNPACKED_BYTES):
        raise InvalidRequest("the body holds too many objects, lists and items")


def parse_bytes(model: type[Model], body: bytes) -> Model:
    check_weight(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None


def describe(error: ValidationError) -> str:
    """`field: what is wrong`, for the first few; the tags that pydantic puts in for a union are left out."""
    named: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        unknown = item["type"] == "extra_forbidden"
        *inside, last = item["loc"] or ("",)
        kept = [part for part in inside if not _is_tag(part)] + [last] * (unknown or not _is_tag(last))
        place = ".".join(map(str, kept))[:_LONGEST_NAME]
        reason = "unknown field" if unknown else item["msg"].removeprefix("Value error, ")
        named[place] = f"{named[place]}, or {reason}" if place in named else reason
    lines = [f"{place}: {reason}" if place else reason for place, reason in named.items()]
    more = len(lines) - _ERRORS_NAMED
    return "; ".join(lines[:_ERRORS_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and (part == "str" or "[" in part)
