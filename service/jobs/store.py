"""Where jobs are kept: what callers ask of it, and what the runners do.

A group is in one of three places: among the lines that wait, in a runner's hands for as long as its lease lasts, or
in a row. A line is removed in the same step that adds its row, and only who removed it adds one: so a group has one
row however many runners scored it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from service.errors import GroupsMissing, JobClosed, JobTooLarge, Overloaded, ServiceError

# What a job takes beside its lines and rows, so that a million empty ones are not free.
JOB_BYTES = 1024
# Of the lines that one `take` hands out.
TAKE_BYTES = 32 * 2**20
# The rate is that of the last one or two of these.
RATE_WINDOW_S = 30.0

NO_JOB = "there is no such job (any more)"

Place = tuple[str, int]  # job, index of the group
Refusal = Literal["missing", "closed", "groups", "bytes"]


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Groups of one job, bytes of everything kept, and seconds that it is kept after its last use."""

    groups: int
    bytes: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is; times are seconds since 1970 by the store's clock, `marked` is when it had `marked_done`."""

    id: str
    groups: int
    done: int
    failed: int
    closed: bool
    cancelled: bool
    created: float
    expires_at: float
    now: float
    marked: float | None = None
    marked_done: int = 0

    @property
    def status(self) -> Literal["open", "running", "done", "cancelled"]:
        if self.cancelled:
            return "cancelled"
        if not self.closed:
            return "open"
        return "done" if self.done == self.groups else "running"

    @property
    def ended(self) -> bool:
        """Whether no row will be added any more."""
        return self.status in ("done", "cancelled")

    @property
    def groups_per_s(self) -> float | None:
        """None before anything was begun and once all is over."""
        if self.marked is None or self.ended or self.now <= self.marked:
            return None
        return (self.done - self.marked_done) / (self.now - self.marked)


@dataclass(frozen=True, slots=True)
class Group:
    """A line in a runner's hands, and whose it is."""

    job: str
    index: int
    caller: str
    line: bytes

    @property
    def place(self) -> Place:
        return self.job, self.index


class CallersJobs(Protocol):
    """The callers' end. A job that is not the caller's is an UnknownJob."""

    async def create(self, caller: str, lines: Sequence[bytes], *, close: bool) -> JobState:
        """A new job with its first lines. Raises JobTooLarge, Overloaded."""
        ...

    async def append(self, job: str, caller: str, lines: Sequence[bytes], first: int, *, close: bool) -> JobState:
        """Lines from index `first` on; those that are there already are passed over.

        All or nothing. Raises UnknownJob, GroupsMissing, JobClosed, JobTooLarge, Overloaded.
        """
        ...

    async def find(self, job: str, caller: str) -> JobState:
        """Raises UnknownJob."""
        ...

    async def rows(self, job: str, start: int, limit: int) -> Sequence[bytes]:
        """Rows in the order in which they were added, from the `start`th on."""
        ...

    async def cancel(self, job: str, caller: str) -> JobState:
        """Drop the lines that have no row. Raises UnknownJob."""
        ...


class RunnersJobs(Protocol):
    """The runners' end."""

    async def take(self, limit: int, lease_s: float) -> Sequence[Group]:
        """Up to `limit` groups that nobody holds, of all jobs in turns; theirs for `lease_s`."""
        ...

    async def keep(self, places: Collection[Place], lease_s: float) -> Sequence[Place]:
        """Hold these for `lease_s` from now. Returns those that need no row any more."""
        ...

    async def release(self, places: Collection[Place]) -> None:
        """Give these back now."""
        ...

    async def finish(self, place: Place, row: bytes, *, failed: bool) -> bool:
        """Add a group's row, unless it has one or its job is cancelled or gone."""
        ...


class Uploads(Protocol):
    """Bytes that a caller sent before the job that refers to them."""

    async def put_upload(self, upload: str, caller: str, content: bytes) -> float:
        """Kept until the time that is returned. Raises Overloaded."""
        ...

    async def upload(self, upload: str, caller: str) -> bytes:
        """Raises UnknownUpload."""
        ...


class JobStore(CallersJobs, RunnersJobs, Uploads, Protocol):
    """One place for it all; any method raises Unavailable when it cannot be reached."""

    # Whether it is another process's, which is expected to outlive this one.
    shared: bool

    async def is_durable(self) -> bool:
        """Whether what is kept survives a restart of whoever keeps it."""
        ...


def refusal(reason: Refusal, groups: int, limits: JobLimits) -> ServiceError:
    """Why lines are not taken by a job that has so many `groups`."""
    match reason:
        case "missing":
            return GroupsMissing(f"first: the job has {groups} groups; the next chunk begins with group {groups}")
        case "closed":
            return JobClosed(f"the job was closed or cancelled with {groups} groups and takes no more")
        case "groups":
            return JobTooLarge(f"the job has {groups} groups; with these it would pass the limit of {limits.groups}")
        case "bytes":
            return Overloaded(f"the jobs and uploads kept here fill their {limits.bytes} bytes; read results, or wait")
