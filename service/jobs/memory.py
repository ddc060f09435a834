"""Jobs in this gateway's memory: nothing to install, and a restart loses them."""

import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from service.errors import UnknownJob, UnknownUpload
from service.jobs.store import JOB_BYTES, NO_JOB, RATE_WINDOW_S, TAKE_BYTES, Group, JobLimits, JobState, Place, refusal


@dataclass(slots=True)
class _Record:
    """A job; `lines` are those without a row, `next` is the first that nobody ever took."""

    id: str
    caller: str
    created: float
    expires_at: float
    lines: dict[int, bytes] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)
    rows: list[bytes] = field(default_factory=list)
    groups: int = 0
    next: int = 0
    failed: int = 0
    bytes: int = JOB_BYTES
    closed: bool = False
    cancelled: bool = False
    # When the job had how many rows: the last two times that it was noted.
    marks: tuple[tuple[float, int], ...] = ()

    def state(self, now: float) -> JobState:
        marked, marked_done = self.marks[0] if self.marks else (None, 0)
        return JobState(
            id=self.id,
            groups=self.groups,
            done=len(self.rows),
            failed=self.failed,
            closed=self.closed,
            cancelled=self.cancelled,
            created=self.created,
            expires_at=self.expires_at,
            now=now,
            marked=marked,
            marked_done=marked_done,
        )

    def take(self, limit: int, now: float) -> list[int]:
        """Groups whose lease ran out, then those that nobody ever took."""
        found = [index for index, until in self.leases.items() if until <= now][:limit]
        fresh = range(self.next, min(self.groups, self.next + limit - len(found)))
        self.next += len(fresh)
        return [index for index in (*found, *fresh) if index in self.lines]

    def mark(self, now: float) -> None:
        if not self.marks or now - self.marks[-1][0] >= RATE_WINDOW_S:
            self.marks = (*self.marks[-1:], (now, len(self.rows)))


@dataclass(frozen=True, slots=True)
class _Upload:
    content: bytes
    expires_at: float


class MemoryJobStore:
    """A JobStore for one gateway. What was used last stands last, so that what expires stands first."""

    shared = False

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._jobs: OrderedDict[str, _Record] = OrderedDict()
        self._uploads: OrderedDict[tuple[str, str], _Upload] = OrderedDict()
        # Jobs with lines that have no row, whose turn is next first.
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        # A correction of the machine's time must not end a lease.
        self._epoch = time.time() - time.monotonic()

    async def is_durable(self) -> bool:
        return False

    async def create(self, caller: str, lines: Sequence[bytes], *, close: bool) -> JobState:
        now = self._sweep()
        record = _Record(uuid.uuid4().hex, caller, now, now + self._limits.ttl_s)
        self._add(record, lines, JOB_BYTES)
        self._jobs[record.id] = record
        self._bytes += JOB_BYTES
        record.closed = close
        return record.state(now)

    async def append(self, job: str, caller: str, lines: Sequence[bytes], first: int, *, close: bool) -> JobState:
        record, now = self._use(job, caller)
        if first > record.groups:
            raise refusal("missing", record.groups, self._limits)
        new = lines[record.groups - first :]
        if new and (record.closed or record.cancelled):
            raise refusal("closed", record.groups, self._limits)
        self._add(record, new)
        record.closed |= close
        return record.state(now)

    async def find(self, job: str, caller: str) -> JobState:
        record, now = self._use(job, caller)
        return record.state(now)

    async def rows(self, job: str, start: int, limit: int) -> Sequence[bytes]:
        record = self._jobs.get(job)
        return record.rows[start : start + limit] if record else []

    async def cancel(self, job: str, caller: str) -> JobState:
        record, now = self._use(job, caller)
        if not record.state(now).ended:
            record.cancelled = True
            self._charge(record, -sum(map(len, record.lines.values())))
            record.lines.clear()
            record.leases.clear()
            self._turns.pop(job, None)
        return record.state(now)

    async def take(self, limit: int, lease_s: float) -> Sequence[Group]:
        now = self._sweep()
        taken: list[Group] = []
        size, share = 0, max(1, limit // max(1, len(self._turns)))
        for job in [*self._turns]:
            if len(taken) >= limit or size >= TAKE_BYTES:
                break
            record = self._jobs[job]
            self._turns.move_to_end(job)
            for index in record.take(min(share, limit - len(taken)), now):
                record.leases[index] = now + lease_s
                taken.append(Group(job, index, record.caller, record.lines[index]))
                size += len(record.lines[index])
                record.mark(now)
        return taken

    async def keep(self, places: Collection[Place], lease_s: float) -> Sequence[Place]:
        until = self._now() + lease_s
        gone: list[Place] = []
        for job, index in places:
            record = self._jobs.get(job)
            if record is not None and index in record.lines:
                record.leases[index] = until
            else:
                gone.append((job, index))
        return gone

    async def release(self, places: Collection[Place]) -> None:
        now = self._now()
        for job, index in places:
            record = self._jobs.get(job)
            if record is not None and index in record.leases:
                record.leases[index] = now

    async def finish(self, place: Place, row: bytes, *, failed: bool) -> bool:
        now = self._sweep()
        job, index = place
        record = self._jobs.get(job)
        line = record.lines.pop(index, None) if record else None
        if record is None or line is None:
            return False
        record.leases.pop(index, None)
        record.rows.append(row)
        record.failed += failed
        record.mark(now)
        self._charge(record, len(row) - len(line))
        self._touch(record, now)
        if not record.lines:
            self._turns.pop(job, None)
        return True

    async def put_upload(self, upload: str, caller: str, content: bytes) -> float:
        now = self._sweep()
        known = self._uploads.get((caller, upload))
        if known is None:
            self._check_room(0, len(content))
            self._bytes += len(content)
        self._uploads[caller, upload] = _Upload(content, now + self._limits.ttl_s)
        self._uploads.move_to_end((caller, upload))
        return now + self._limits.ttl_s

    async def upload(self, upload: str, caller: str) -> bytes:
        self._sweep()
        known = self._uploads.get((caller, upload))
        if known is None:
            raise UnknownUpload(f"{upload} is not stored here (any more); send it with PUT /uploads")
        return known.content

    def _now(self) -> float:
        return self._epoch + time.monotonic()

    def _use(self, job: str, caller: str) -> tuple[_Record, float]:
        now = self._sweep()
        record = self._jobs.get(job)
        if record is None or record.caller != caller:
            raise UnknownJob(NO_JOB)
        self._touch(record, now)
        return record, now

    def _touch(self, record: _Record, now: float) -> None:
        record.expires_at = now + self._limits.ttl_s
        self._jobs.move_to_end(record.id)

    def _add(self, record: _Record, lines: Sequence[bytes], beside: int = 0) -> None:
        size = sum(map(len, lines))
        if record.groups + len(lines) > self._limits.groups:
            raise refusal("groups", record.groups, self._limits)
        if lines or beside:
            self._check_room(record.groups, size + beside)
        if not lines:
            return
        record.lines.update(enumerate(lines, record.groups))
        record.groups += len(lines)
        self._charge(record, size)
        self._turns.setdefault(record.id, None)

    def _check_room(self, groups: int, size: int) -> None:
        if self._bytes + size > self._limits.bytes:
            raise refusal("bytes", groups, self._limits)

    def _charge(self, record: _Record, size: int) -> None:
        record.bytes += size
        self._bytes += size

    def _sweep(self) -> float:
        """Forget what nobody has used for long; the time."""
        now = self._now()
        while self._jobs and (record := next(iter(self._jobs.values()))).expires_at <= now:
            del self._jobs[record.id]
            self._turns.pop(record.id, None)
            self._bytes -= record.bytes
        while self._uploads and (entry := next(iter(self._uploads.items())))[1].expires_at <= now:
            del self._uploads[entry[0]]
            self._bytes -= len(entry[1].content)
        return now
