"""A worker's end of the queue in Redis: take, begin, deliver, and the beat by which the others know that it lives."""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from redis.exceptions import RedisError, ResponseError

from service.backoff import Backoff
from service.job import Job
from service.queue import redis_keys as keys
from service.queue.connection import AWAY, Line, connect, disconnect
from service.queue.redis_codec import (
    Loaded,
    Result,
    Standing,
    pack,
    pack_result,
    unpack_job,
    unpack_standing,
)

# A worker that is silent for so long is dead, once somebody has watched it be silent for a while: after a pause of
# Redis itself all of them are silent.
_ALIVE_MS = 10_000
_WATCHED_S = 5.0
_LEASE_MS = 6_000
_FLEET_MS = 30_000
BEAT_S = 2.0


class OtherFleet(Exception):
    """Others serve something else under the same name."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A job in hand; its times are of this machine's monotonic clock. `cost` in tokens."""

    job: Job
    cost: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A job that its last worker did not survive."""

    job: Job
    deaths: int


class RedisWorker:
    """One worker, known to Redis by a name of its own. Every verb raises one of AWAY when Redis is away."""

    def __init__(self, url: str, models: Sequence[str], *, result_ms: int, result_bytes: int, steal_ms: int) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._line = Line(url)
        self._bell = connect(url)
        self._result_ms, self._result_bytes, self._steal_ms = result_ms, result_bytes, steal_ms
        self._models = tuple(models)
        self._leased: dict[str, list[int]] = {}
        self._silent_since: dict[str, float] = {}
        self._turn = 0
        # The last order that anybody gave to all workers.
        self.ordered = 0

    async def close(self) -> None:
        with contextlib.suppress(*AWAY, RedisError):
            await self._line.script("leave", self.name, keys.SHARDS, *self._models)
        await self._line.close()
        await disconnect(self._bell)

    async def orders(self) -> dict[str, bytes]:
        """What all workers are to do: `version`, `asleep`, `sources`; empty before the first order."""
        found: dict[bytes, bytes] = await self._line.call("HGETALL", keys.CONTROL)
        return {name.decode(): value for name, value in found.items()}

    async def is_served(self, generation: int) -> bool:
        """Whether workers that live serve what the last reload loaded."""
        found = [await self._line.call("HGET", keys.fleet(model), "generation") for model in self._models]
        return all(each is not None and int(each) == generation for each in found)

    async def standings(self) -> list[Standing]:
        """What the living workers of this one's models say of themselves."""
        return [unpack_standing(each) for each in await self._line.script("standings", *self._models)]

    async def register(self, loaded: Sequence[Loaded], generation: int) -> None:
        """Say what this worker serves, which makes its streams. Raises OtherFleet."""
        for one in loaded:
            name = one.model.name
            known = await self._line.script(
                "register", self.name, name, generation, pack(one), _FLEET_MS, *keys.streams(name)
            )
            if known:
                raise OtherFleet(
                    f"{name}: the other workers serve something else under this name; give it another name, or use "
                    f"POST /admin/reload to change the weights of all of them"
                )

    async def beat(self, standing: Standing) -> list[str]:
        """Live on, renew leases, claim free shards. Returns the workers that are dead for certain."""
        limits = (_ALIVE_MS, _LEASE_MS, _FLEET_MS, keys.SHARDS, self._result_bytes)
        ordered, silent, *shards = await self._line.script("beat", self.name, pack(standing), *limits, *self._models)
        self.ordered = int(ordered)
        self._leased = dict(zip(self._models, shards, strict=True))
        now = time.monotonic()
        names = {name.decode() for name in silent}
        self._silent_since = {name: self._silent_since.get(name, now) for name in names}
        return [name for name, since in self._silent_since.items() if now - since >= _WATCHED_S]

    async def reclaim(self, dead: str, most_deaths: int) -> list[GivenUp]:
        """Put a dead worker's jobs back; returns those that have killed too many."""
        streams = [stream for model in self._models for stream in keys.streams(model)]
        found = await self._line.script("reclaim", self.name, dead, most_deaths, *streams)
        self._silent_since.pop(dead, None)
        return [GivenUp(unpack_job(body), int(deaths)) for _, body, deaths in found]

    async def take(self, tokens: int, jobs: int, *, is_idle: bool) -> list[Taken]:
        """Up to so many, urgent ones first; an idle worker also takes what has waited too long for its own worker.

        Raises ResponseError when the streams are gone: register again.
        """
        self._turn += 1
        ordered, *found = await self._line.script("take", self.name, tokens, jobs, *self._sources(is_idle))
        self.ordered = int(ordered)
        now = time.monotonic()
        return [
            Taken(
                replace(
                    unpack_job(body),
                    rank=int(rank),
                    submitted=now - int(waited) / 1000,
                    deadline=None if int(left) < 0 else now + int(left) / 1000,
                    deaths=int(deaths),
                ),
                int(cost),
            )
            for _, body, left, waited, deaths, cost, rank in found
        ]

    async def in_hand(self) -> set[str]:
        """The jobs that Redis believes to be with this worker."""
        return {name.decode() for name in await self._line.call("SMEMBERS", keys.hand(self.name))}

    async def listen(self, seconds: float) -> None:
        """Until a job may have come for this worker, or so long."""
        await cast("asyncio.Future[object]", self._bell.blpop([keys.bell(self.name)], timeout=seconds))

    async def began(self, jobs: Sequence[str]) -> None:
        await self._line.script("began", self.name, *jobs)

    async def blame(self, job: str, deaths: int) -> None:
        await self._line.script("blamed", job, deaths)

    async def deliver(self, job: str, result: Result, why_dead: str = "") -> None:
        """The first result of a job counts, later ones are dropped."""
        limits = (self._result_ms, self._result_bytes)
        await self._line.script("deliver", self.name, job, pack_result(result), *limits, why_dead)

    async def give_back(self, jobs: Iterable[str]) -> None:
        """For others to take, before all of their rank."""
        await self._line.script("give_back", self.name, *jobs)

    async def blob(self, digest: str) -> bytes | None:
        """A picture's bytes, None when Redis has them no more; waits while Redis is away."""
        backoff = Backoff()
        while True:
            try:
                content = await self._line.call("GET", keys.blob(digest))
            except AWAY:
                await backoff.wait()
            except ResponseError:
                return None
            else:
                return content if isinstance(content, bytes) else None

    def _sources(self, is_idle: bool) -> list[str | int]:
        """Streams in the order in which they are looked at, each with the age from which its jobs may be taken."""
        sources: list[str | int] = []
        for rank in keys.RANKS:
            for model in self._models:
                sources += [keys.stream(model, rank, keys.AGAIN), 0]
                own = self._leased.get(model, [])
                for place in range(len(own)):
                    # In turn, so that no shard is always the last.
                    sources += [keys.stream(model, rank, own[(place + self._turn) % len(own)]), 0]
                for shard in range(keys.SHARDS) if is_idle else ():
                    if shard not in own:
                        sources += [keys.stream(model, rank, shard), self._steal_ms]
        return sources
