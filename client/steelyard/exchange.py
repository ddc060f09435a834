"""One request to the server with its retries, without I/O: it yields what to do and is sent what came of it."""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from typing import Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from steelyard.errors import BadAnswer, ServiceError, SteelyardError, class_of
from steelyard.retry import Retry, parse_retry_after
from steelyard.schema import ErrorDetail, ErrorResponse

_LONGEST_EXCERPT = 200

Result = TypeVar("Result")
Wire = TypeVar("Wire", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Send:
    """Make this request; answered with an Answer, or the error that stands for what went wrong on the way."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    timeout_s: float
    content: bytes = field(default=b"", repr=False)
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Run this, which takes a while: on an event loop, beside it."""

    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Alone:
    """Run this script while no other one runs under the same name."""

    name: str
    script: "Script[None]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server, or something before it, said."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Reply: TypeAlias = Answer | SteelyardError | None
Script: TypeAlias = Generator[Send | Wait | Work | Alone, Reply, Result]


@dataclass(frozen=True, slots=True)
class Chance:
    """What a script takes from the outside world: seconds that pass, and a draw from [0, 1) for the jitter."""

    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


def exchange(send: Send, retry: Retry, chance: Chance, started: float) -> Script[Answer]:
    """The success that comes in the end. Raises the last attempt's error when the call, `started` then, gives up."""
    for attempt in count():
        reply = yield send
        assert reply is not None
        failure = reply if isinstance(reply, SteelyardError) else failure_of(reply)
        if failure is None:
            assert isinstance(reply, Answer)
            return reply
        pause_s = retry.pause_s(failure, attempt, chance.clock() - started, chance.draw())
        if pause_s is None:
            raise failure
        yield Wait(pause_s)
    raise AssertionError("unreachable")


def beside(heavy: bool, run: Callable[[], Result]) -> Script[Result]:
    """The result of work that may read and encode pictures, or only looks at what is there."""
    if not heavy:
        return run()
    results: list[Result] = []
    yield Work(lambda: results.append(run()))
    return results[0]


def parse(model: type[Wire], answer: Answer) -> Wire:
    """Raises BadAnswer. Fields that a newer server adds are passed over."""
    try:
        return model.model_validate_json(answer.content, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadAnswer(f"not the answer of a Steelyard server: {place}: {first['msg']}") from None


def failure_of(answer: Answer) -> ServiceError | None:
    """The error that an answer stands for, or None when it is a success."""
    if answer.status // 100 == HTTPStatus.OK // 100:
        return None
    detail = _detail(answer)
    code = detail.code if detail else None
    failure = class_of(answer.status, code)(detail.message if detail else _excerpt(answer))
    failure.status = answer.status
    failure.code = code
    failure.request_id = detail.request_id if detail else answer.headers.get("x-request-id")
    failure.retry_after_s = parse_retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
    return failure


def _detail(answer: Answer) -> ErrorDetail | None:
    try:
        return ErrorResponse.model_validate_json(answer.content, extra="ignore").error
    except ValidationError:
        return None


def _excerpt(answer: Answer) -> str:
    """The beginning of a page that is no error object, or where it points."""
    where = answer.headers.get("location", "")
    text = " ".join(answer.content[: 4 * _LONGEST_EXCERPT].decode("utf-8", "replace").split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in where or text)
    return f"no error object of a Steelyard server, but {shown[:_LONGEST_EXCERPT]!r}"
