"""The calls about jobs as scripts: groups handed over in bulk, and their rows fetched page by page."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from pydantic_core import PydanticSerializationError

from steelyard.errors import BadAnswer, InvalidCall
from steelyard.exchange import Answer, Script, parse
from steelyard.schema import BatchJob, JobCursor, JobRow, ScoreRequest
from steelyard.sending import Sender

NDJSON = "application/x-ndjson"
GroupLike: TypeAlias = ScoreRequest | Mapping[str, object] | str | bytes


@dataclass(frozen=True, slots=True)
class JobPage:
    """Rows of a job as lines of JSON, the cursor after them, and whether they are the last."""

    lines: list[bytes]
    cursor: str
    done: bool

    @property
    def rows(self) -> list[JobRow]:
        """Raises BadAnswer."""
        return [parse(JobRow, Answer(200, {}, line)) for line in self.lines]


class JobCalls:
    """A group is the body of a scoring call: a request, a mapping or a line of JSON, its pictures by id or as base64.

    Jobs are scored in the last priority.
    """

    _sender: Sender

    def create_job(self, groups: Iterable[GroupLike] = (), *, open: bool = False) -> Script[BatchJob]:
        """A new job with these groups; with `open` more may follow.

        It is made empty first, so that a retry never scores the groups twice.
        """
        content = _lines(groups)
        made = parse(BatchJob, (yield from self._sender.call("POST", "/jobs?open=true", b"", NDJSON)))
        if open and not content:
            return made
        return (yield from self._append(made.id, content, 0, close=not open))

    def append_groups(
        self, job: str, groups: Iterable[GroupLike], first: int, *, close: bool = False
    ) -> Script[BatchJob]:
        """More groups, the first of which is the job's group `first`; those that are there already are passed over."""
        return (yield from self._append(job, _lines(groups), first, close=close))

    def job(self, job: str) -> Script[BatchJob]:
        """How far it is."""
        return parse(BatchJob, (yield from self._sender.call("GET", _path(job))))

    def job_results(self, job: str, cursor: str = "0", *, limit: int = 1000, wait_s: float = 0.0) -> Script[JobPage]:
        """Rows from the cursor on, in the order in which they were finished; waits up to 30 s for the first."""
        path = f"{_path(job)}/results?cursor={quote(cursor, safe='')}&limit={limit}&wait={wait_s:g}"
        answer = yield from self._sender.call("GET", path, extra_s=wait_s)
        *lines, last = answer.content.removesuffix(b"\n").split(b"\n")
        end = parse(JobCursor, Answer(answer.status, answer.headers, last))
        if not answer.content.endswith(b"\n"):
            raise BadAnswer("a page of rows has no end")
        return JobPage(lines, end.cursor, end.done)

    def cancel_job(self, job: str) -> Script[BatchJob]:
        """Start no more of its groups; the rows stay readable."""
        return parse(BatchJob, (yield from self._sender.call("DELETE", _path(job))))

    def _append(self, job: str, content: bytes, first: int, *, close: bool) -> Script[BatchJob]:
        path = f"{_path(job)}/groups?first={first}&close={str(close).lower()}"
        return parse(BatchJob, (yield from self._sender.call("POST", path, content, NDJSON)))


def _path(job: str) -> str:
    return f"/jobs/{quote(job, safe='')}"


def _lines(groups: Iterable[GroupLike]) -> bytes:
    return b"".join(_line(group) + b"\n" for group in groups)


def _line(group: GroupLike) -> bytes:
    """Raises InvalidCall for what is not one line of JSON; whether it is a group is for the server to say."""
    try:
        if isinstance(group, ScoreRequest):
            return group.model_dump_json(exclude_none=True).encode()
        if isinstance(group, Mapping):
            return json.dumps(dict(group), ensure_ascii=False, allow_nan=False).encode()
        line = (group.encode() if isinstance(group, str) else group).strip()
    except (TypeError, ValueError, RecursionError, PydanticSerializationError) as error:
        raise InvalidCall(f"a group cannot be written as JSON: {error}") from None
    if not line or b"\n" in line:
        raise InvalidCall("a group that is given as text is one line of JSON")
    return line
