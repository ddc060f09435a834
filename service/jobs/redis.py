"""Jobs in Redis, for any number of gateways: they survive everything but the loss of its disk."""

import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import Unavailable, UnknownJob, UnknownUpload
from service.jobs import scripts
from service.jobs.store import (
    JOB_BYTES,
    NO_JOB,
    RATE_WINDOW_S,
    TAKE_BYTES,
    Group,
    JobLimits,
    JobState,
    Place,
    Refusal,
    refusal,
)

_P = "steelyard:jobs:"
_WINDOW_MS = int(RATE_WINDOW_S * 1000)

Argument = str | bytes | int
Script = Callable[..., Awaitable[object]]


class RedisJobStore:
    """A JobStore over a client that does not decode answers; the keys are told in `scripts.py`."""

    shared = True

    def __init__(self, redis: Redis, limits: JobLimits) -> None:
        self._redis = redis
        self._limits = limits
        self._ttl_ms = max(1, int(limits.ttl_s * 1000))
        self._append = redis.register_script(scripts.APPEND)
        self._find = redis.register_script(scripts.FIND)
        self._cancel = redis.register_script(scripts.CANCEL)
        self._take = redis.register_script(scripts.TAKE)
        self._keep = redis.register_script(scripts.KEEP)
        self._finish = redis.register_script(scripts.FINISH)
        self._put_upload = redis.register_script(scripts.PUT_UPLOAD)

    async def is_durable(self) -> bool:
        """Whether Redis writes what it keeps to its disk as it goes."""
        with _reachable():
            persistence = await self._redis.info("persistence")
        return bool(persistence.get("aof_enabled"))

    async def create(self, caller: str, lines: Sequence[bytes], *, close: bool) -> JobState:
        return await self._add(uuid.uuid4().hex, caller, lines, 0, create=True, close=close)

    async def append(self, job: str, caller: str, lines: Sequence[bytes], first: int, *, close: bool) -> JobState:
        return await self._add(job, caller, lines, first, create=False, close=close)

    async def find(self, job: str, caller: str) -> JobState:
        return self._state(job, await _run(self._find, job, caller, self._ttl_ms))

    async def rows(self, job: str, start: int, limit: int) -> Sequence[bytes]:
        with _reachable():
            found = await self._redis.xrange(f"{_P}{job}:rows", min=f"{start + 1}-0", count=limit)
        return [fields[b"r"] for _, fields in cast(Sequence[tuple[bytes, dict[bytes, bytes]]], found)]

    async def cancel(self, job: str, caller: str) -> JobState:
        return self._state(job, await _run(self._cancel, job, caller, self._ttl_ms))

    async def take(self, limit: int, lease_s: float) -> Sequence[Group]:
        parts = await _run(self._take, limit, _ms(lease_s), TAKE_BYTES, _WINDOW_MS)
        return [
            Group(parts[place].decode(), int(parts[place + 1]), parts[place + 2].decode(), parts[place + 3])
            for place in range(0, len(parts), 4)
        ]

    async def keep(self, places: Collection[Place], lease_s: float) -> Sequence[Place]:
        parts = await _run(self._keep, _ms(lease_s), *(part for place in places for part in place))
        return [(parts[place].decode(), int(parts[place + 1])) for place in range(0, len(parts), 2)]

    async def release(self, places: Collection[Place]) -> None:
        await self.keep(places, 0)

    async def finish(self, place: Place, row: bytes, *, failed: bool) -> bool:
        with _reachable():
            added = await cast(Script, self._finish)(args=[*place, row, int(failed), self._ttl_ms, _WINDOW_MS])
        return bool(added)

    async def put_upload(self, upload: str, caller: str, content: bytes) -> float:
        entry = _entry(upload, caller)
        status, now = (await _run(self._put_upload, entry, content, self._ttl_ms, self._limits.bytes))[:2]
        if status != b"ok":
            raise refusal("bytes", 0, self._limits)
        return (int(now) + self._ttl_ms) / 1000

    async def upload(self, upload: str, caller: str) -> bytes:
        with _reachable():
            content = cast(bytes | None, await self._redis.get(_P + _entry(upload, caller)))
        if content is None:
            raise UnknownUpload(f"{upload} is not stored here (any more); send it with PUT /uploads")
        return content

    async def _add(
        self, job: str, caller: str, lines: Sequence[bytes], first: int, *, create: bool, close: bool
    ) -> JobState:
        limits = self._limits
        options = (int(create), first, int(close), self._ttl_ms, limits.groups, limits.bytes, JOB_BYTES)
        return self._state(job, await _run(self._append, job, caller, *options, *lines))

    def _state(self, job: str, parts: Sequence[bytes]) -> JobState:
        """Raises UnknownJob, and what the script refused with."""
        status = parts[0].decode()
        if status == "unknown":
            raise UnknownJob(NO_JOB)
        fields = {parts[place]: parts[place + 1] for place in range(2, len(parts), 2)}
        groups = int(fields.get(b"groups", 0))
        if status != "ok":
            raise refusal(cast(Refusal, status), groups, self._limits)
        marked = fields.get(b"marked")
        return JobState(
            id=job,
            groups=groups,
            done=int(fields.get(b"done", 0)),
            failed=int(fields.get(b"failed", 0)),
            closed=b"closed" in fields,
            cancelled=b"cancelled" in fields,
            created=int(fields[b"created"]) / 1000,
            expires_at=int(fields[b"expires"]) / 1000,
            now=int(parts[1]) / 1000,
            marked=None if marked is None else int(marked) / 1000,
            marked_done=int(fields.get(b"marked_done", 0)),
        )


async def _run(script: object, *arguments: Argument) -> Sequence[bytes]:
    """A script's list of strings."""
    with _reachable():
        return cast(Sequence[bytes], await cast(Script, script)(args=list(arguments)))


@contextmanager
def _reachable() -> Iterator[None]:
    """Raises Unavailable for whatever Redis or the way there has."""
    try:
        yield
    except RedisError as error:
        raise Unavailable(f"the jobs' Redis does not answer as it should: {error}") from None


def _entry(upload: str, caller: str) -> str:
    return f"upload:{caller}:{upload}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
