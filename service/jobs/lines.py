"""The groups of a job as lines of NDJSON: each is the body of one scoring call."""

from typing import Annotated

from pydantic import Discriminator, RootModel, Tag

from service.body import parse_bytes
from service.errors import JobTooLarge, ServiceError
from service.limits import check_counts
from service.settings import Settings
from steelyard.schema import ScoreOutcomesRequest, ScoreRequest, ScoreStepsRequest

# Of one chunk: Redis takes it in one step, during which it does nothing else.
MOST_LINES = 50_000


def _kind(fields: object) -> str:
    is_outcomes = isinstance(fields, dict) and ("messages" in fields or "conversations" in fields)
    return "[outcomes]" if is_outcomes else "[steps]"


class _Line(
    RootModel[
        Annotated[
            Annotated[ScoreStepsRequest, Tag("[steps]")] | Annotated[ScoreOutcomesRequest, Tag("[outcomes]")],
            Discriminator(_kind),
        ]
    ]
):
    """Either request, told apart by its fields."""


def read_line(line: bytes) -> ScoreRequest:
    """The request that a line is, in the last priority. Raises InvalidRequest."""
    return parse_bytes(_Line, line).root.model_copy(update={"priority": "batch"})


def read_lines(body: bytes, settings: Settings) -> list[bytes]:
    """The lines of a chunk, each found to be a request; blank ones are left out.

    Raises InvalidRequest or JobTooLarge that names the line, counted from 1.
    """
    if body.count(b"\n") > MOST_LINES:
        raise JobTooLarge(f"more than {MOST_LINES} lines in one chunk; send them in several")
    lines: list[bytes] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if stripped := line.strip():
            try:
                _check(stripped, settings)
            except ServiceError as error:
                raise type(error)(f"line {number}: {error.message}") from None
            lines.append(stripped)
    return lines


def _check(line: bytes, settings: Settings) -> None:
    if len(line) > settings.job_line_bytes:
        raise JobTooLarge(f"{len(line)} bytes, the limit is {settings.job_line_bytes}")
    check_counts(read_line(line), settings)
