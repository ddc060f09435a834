"""A gateway's end of the queue in Redis, which joins gateways and workers across machines.

Scoring is a pure function of the job, so at-least-once delivery is harmless: a job is named by its content, whoever
brings its result first is believed, and whatever was interrupted may simply be done again.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import cast

from redis.exceptions import OutOfMemoryError, RedisError

from service.backoff import Backoff
from service.drain import EXPECTED_TOKENS_PER_S, DrainRate, retry_after_s
from service.ending import end
from service.engine_counts import EngineCounts
from service.job import Delivery, EngineModel, Job
from service.queue import EngineDied, EngineStartError, QueueFull, QueueUnavailable
from service.queue import redis_keys as keys
from service.queue.connection import AWAY, Line, connect, disconnect, hide_password
from service.queue.frames import EngineModelSource
from service.queue.redis_codec import (
    Loaded,
    content_of,
    cost_of,
    delivery_of,
    pack_job,
    pack_sources,
    unpack_loaded,
    unpack_result,
    unpack_standing,
)

log = logging.getLogger(__name__)

# A gateway that says nothing for so long gets no more replies.
_GATEWAY_MS = 30_000
_BEAT_S = 1.0
# Who waits longer than this asks for the stored result: the reply may have been lost.
_CHECK_S = 3.0
# How long a submission may be tried again before the caller is told to come back.
_PATIENCE_S = 4.0
# How long workers may take to carry out an order: a large model loads for minutes.
_ORDER_S, _LOOK_S = 900.0, 0.1
_BLOB_BEYOND_MS = 3_600_000
_BLOB_WITHOUT_DEADLINE_MS = 7 * 86_400_000
# What each rank leaves free for those before it.
_SHARE = {0: 1.0, 1: 0.9, 2: 0.8}


@dataclasses.dataclass(frozen=True, slots=True)
class RedisOptions:
    """`tokens` that may wait in all; how long ids are kept, and whether stored results count."""

    url: str
    tokens: int
    replay_ms: int
    reuse: bool


@dataclasses.dataclass(slots=True)
class _Awaited:
    """A job that callers of this gateway wait for."""

    job: Job
    body: bytes
    blobs: Mapping[str, bytes]
    since: float
    replies: list[asyncio.Future[bytes]] = dataclasses.field(default_factory=list)


class RedisQueue:
    """A Queue over Redis; the models are those that its workers have registered.

    `expected` maps each served name to the digest of the tokeniser with which this gateway encodes for it, `sources` is
    what workers serve until the first reload. `on_models` is called when they serve other weights, sleep or wake.
    """

    def __init__(
        self,
        options: RedisOptions,
        expected: Mapping[str, str],
        on_models: Callable[[], None],
        sources: Sequence[EngineModelSource] = (),
    ) -> None:
        self._options = options
        self._expected = dict(expected)
        self._sources = tuple(sources)
        self._on_models = on_models
        self._name = uuid.uuid4().hex[:12]
        self._line = Line(options.url)
        self._listening = connect(options.url)
        self._awaited: dict[str, _Awaited] = {}
        self._loaded: dict[str, Loaded] = {}
        self._served: frozenset[str] = frozenset()
        self._looking = asyncio.Lock()
        self.asleep = False
        self._load: dict[str, list[int]] = {}
        self._rate = DrainRate(EXPECTED_TOKENS_PER_S)
        # Tokens finished since the beginning, by model, and when that was read.
        self._done: dict[str, int] = {}
        self._looked = time.monotonic()
        self._is_up = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()
        self._aside: set[asyncio.Task[None]] = set()
        self._closing = False
        self.restarts = 0
        self.counts: EngineCounts | None = None
        self.progress = f"waiting for Redis at {hide_password(options.url)}"

    def models(self) -> Sequence[EngineModel]:
        return tuple(loaded.model for loaded in self._loaded.values())

    @property
    def batch_invariant(self) -> bool:
        return any(loaded.batch_invariant for loaded in self._loaded.values())

    @property
    def waiting(self) -> Mapping[str, Sequence[int]]:
        """Tokens that wait or are in hand, by model and rank, over the whole fleet; a second old at most."""
        return self._load

    async def start(self) -> None:
        """Returns when workers have registered every model."""
        self._tasks = [
            asyncio.create_task(self._tend(), name="redis tend"),
            asyncio.create_task(self._listen(), name="redis replies"),
        ]
        await self._ready.wait()

    async def close(self) -> None:
        self._closing = True
        await end([*self._tasks, *self._aside])
        with contextlib.suppress(*AWAY, RedisError):
            await self._line.call("DEL", keys.gateway(self._name), keys.replies(self._name))
        await self._line.close()
        await disconnect(self._listening)

    async def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        self._check_open(job.model)
        content = content_of(job, self._loaded[job.model].model.weights)
        awaited = self._awaited.get(content)
        if awaited is None:
            awaited = self._awaited[content] = _Awaited(job, pack_job(job, content), blobs, since=time.monotonic())
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        awaited.replies.append(reply)
        try:
            answer = await self._enqueue(content, awaited, job)
            if isinstance(answer, bytes) and not reply.done():
                reply.set_result(answer)
            yield delivery_of(unpack_result(await reply), job.id, is_charged=answer == "queued")
        finally:
            awaited.replies.remove(reply)
            if not awaited.replies:
                del self._awaited[content]
                if not reply.done():
                    self._run_aside(self._withdraw(content))

    async def sleep(self) -> None:
        """Returns when no worker holds the device's memory. Raises EngineStartError when one does not answer."""
        await self._order({"asleep": "1"})

    async def wake(self) -> None:
        await self._order({"asleep": "0"})

    async def reload(self, models: Sequence[EngineModelSource]) -> None:
        """Jobs that wait are scored by the new weights: the tokeniser has to be the same.

        The folders must be there on every worker's machine. Raises EngineStartError when one cannot load them, and has
        all of them load those before.
        """
        before = self._sources
        try:
            await self._order({"sources": pack_sources(models)}, is_reload=True)
        except EngineStartError:
            with contextlib.suppress(EngineStartError):
                await self._order({"sources": pack_sources(before)}, is_reload=True)
            raise
        self._sources = tuple(models)

    async def _order(self, fields: Mapping[str, str | bytes], *, is_reload: bool = False) -> None:
        """Returns when every worker that lives has carried it out. Raises EngineStartError."""
        pairs = [word for pair in fields.items() for word in pair]
        try:
            version = await self._line.script("order", int(is_reload), *pairs)
            # What is waited for happens in other processes.
            async with asyncio.timeout(_ORDER_S):
                obeyed = False
                while not obeyed:
                    await asyncio.sleep(_LOOK_S)
                    obeyed = await self._is_obeyed(version)
            await self._look_at_fleet()
        except TimeoutError:
            raise EngineDied(f"a worker has not answered in {_ORDER_S:.0f} s") from None
        except AWAY:
            raise EngineDied("Redis does not answer") from None

    async def _is_obeyed(self, version: int) -> bool:
        """Raises EngineStartError."""
        standings = [unpack_standing(each) for each in await self._line.script("standings", *self._expected)]
        for standing in standings:
            if standing.version >= version and standing.trouble:
                raise EngineStartError(standing.trouble)
        return all(each.version >= version and each.state in ("awake", "asleep") for each in standings)

    async def claim(self, caller: str, given_id: str, fingerprint: bytes) -> bool:
        """Whether a caller's id is free or was used for the same body, at any gateway. Raises QueueUnavailable."""
        name = hashlib.sha256(given_id.encode(errors="surrogatepass")).hexdigest()
        try:
            return bool(await self._line.script("claim", caller, name, fingerprint, self._options.replay_ms))
        except AWAY:
            raise QueueUnavailable("Redis does not answer") from None

    async def blob(self, digest: str) -> bytes | None:
        """A picture that another gateway has stored; None where Redis has none or is away."""
        try:
            content = await self._line.call("GET", keys.blob(digest))
        except (*AWAY, RedisError):
            return None
        return content if isinstance(content, bytes) else None

    async def keep(self, digest: str, content: bytes, seconds: float) -> None:
        """Store a picture for the other gateways. Raises QueueUnavailable."""
        try:
            await self._line.call("SET", keys.blob(digest), content, "PX", int(seconds * 1000))
        except OutOfMemoryError:
            raise QueueFull("Redis has no memory left", 30) from None
        except AWAY:
            raise QueueUnavailable("Redis does not answer") from None

    def _check_open(self, model: str) -> None:
        if self._closing:
            raise QueueUnavailable("the server is stopping")
        if not self._is_up:
            raise QueueUnavailable("Redis does not answer")
        if model not in self._served:
            raise QueueUnavailable(f"no worker serves {model}")

    async def _enqueue(self, content: str, awaited: _Awaited, job: Job) -> str | bytes:
        """ "queued", "joined", or the payload of a stored result. Raises QueueUnavailable and QueueFull."""
        deadline = time.monotonic() + _PATIENCE_S
        backoff = Backoff()
        while True:
            try:
                return await self._submit(content, awaited, job)
            except OutOfMemoryError:
                raise QueueFull("Redis has no memory left", 30) from None
            except AWAY as error:
                if time.monotonic() + backoff.next_s > deadline:
                    raise QueueUnavailable(f"Redis does not answer: {type(error).__name__}") from None
                await backoff.wait()

    async def _submit(self, content: str, awaited: _Awaited, job: Job) -> str | bytes:
        left_ms = -1 if job.deadline is None else max(0, int((job.deadline - time.monotonic()) * 1000))
        blob_ms = _BLOB_WITHOUT_DEADLINE_MS if left_ms < 0 else left_ms + _BLOB_BEYOND_MS
        capacity = int(self._options.tokens * _SHARE[job.rank])
        shard, cost = keys.shard_of(job.opening), cost_of(job)
        limits = (cost, left_ms, self._name, capacity, blob_ms, int(self._options.reuse))
        while True:
            answer, *rest = await self._line.script(
                "submit", content, job.model, job.rank, shard, awaited.body, *limits, *awaited.blobs
            )
            match answer.decode():
                case "done":
                    payload: bytes = rest[0]
                    return payload
                case "full":
                    raise QueueFull(
                        f"{int(rest[0])} tokens wait for {job.model}", retry_after_s(self._rate.seconds_for(cost))
                    )
                case "blobs":
                    for digest in rest:
                        await self._line.call(
                            "SET", keys.blob(digest.decode()), awaited.blobs[digest.decode()], "PX", blob_ms
                        )
                case known:
                    return str(known)

    async def _withdraw(self, content: str) -> None:
        with contextlib.suppress(*AWAY, RedisError):
            await self._line.script("withdraw", content, self._name)

    def _run_aside(self, work: Coroutine[None, None, None]) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _listen(self) -> None:
        """Hand out what workers send to this gateway."""
        last: bytes | str = "0"
        backoff = Backoff()
        while True:
            try:
                found = cast(
                    Sequence[tuple[bytes, Sequence[tuple[bytes, dict[bytes, bytes]]]]],
                    await self._listening.xread({keys.replies(self._name): last}, count=512, block=1000),
                )
            except (*AWAY, RedisError):
                await backoff.wait()
                continue
            backoff = Backoff()
            for _, entries in found or ():
                for entry, fields in entries:
                    last = entry
                    self._answer(fields[b"job"].decode(), fields[b"result"])
                self._run_aside(self._trim(last))

    async def _trim(self, last: bytes | str) -> None:
        with contextlib.suppress(*AWAY, RedisError):
            await self._line.call("XTRIM", keys.replies(self._name), "MINID", "~", last)

    def _answer(self, content: str, payload: bytes) -> None:
        awaited = self._awaited.get(content)
        for reply in awaited.replies if awaited else ():
            if not reply.done():
                reply.set_result(payload)

    async def _tend(self) -> None:
        """Stay known to Redis, know its workers, and look for what was lost on the way."""
        backoff, checked, was_told = Backoff(), 0.0, False
        while True:
            try:
                await self._line.call("SET", keys.gateway(self._name), "1", "PX", _GATEWAY_MS)
                await self._look_at_fleet()
                if not self._is_up or time.monotonic() - checked > _CHECK_S:
                    await self._check_awaited(0.0 if not self._is_up else _CHECK_S)
                    checked = time.monotonic()
                if not self._is_up:
                    log.info("Redis answers at %s", hide_password(self._options.url))
                self._is_up, backoff, was_told = True, Backoff(), False
                await asyncio.sleep(_BEAT_S if self._ready.is_set() else _BEAT_S / 10)
            except (*AWAY, RedisError) as error:
                if not was_told:
                    log.error("Redis does not answer: %s", error)
                self._is_up, was_told = False, True
                await backoff.wait()

    async def _look_at_fleet(self) -> None:
        """One look at a time: what an earlier one read must not replace what a later one found."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        names = list(self._expected)
        records = await asyncio.gather(*(self._line.call("HGET", keys.fleet(name), "loaded") for name in names))
        loads = await asyncio.gather(
            *(self._line.call("HMGET", keys.load(name), "0", "1", "2", "done") for name in names)
        )
        if any(map(any, self._load.values())):
            self._rate.pass_time(time.monotonic() - self._looked)
        self._looked = time.monotonic()
        for name, load in zip(names, loads, strict=True):
            *waiting, done = (int(field or 0) for field in load)
            self._load[name] = waiting
            # A Redis that lost its data counts from nothing.
            self._rate.finish(max(0, done - self._done.get(name, done)))
            self._done[name] = done
        found = {name: unpack_loaded(record) for name, record in zip(names, records, strict=True) if record}
        self._served = frozenset(name for name in found if self._is_as_expected(name, found[name]))
        missing = [name for name in names if name not in self._served]
        if missing and not self._ready.is_set():
            self.progress = f"no worker serves {', '.join(missing)} yet"
        asleep = await self._line.call("HGET", keys.CONTROL, "asleep") == b"1"
        changed = {name: found[name] for name in self._served if self._loaded.get(name) != found[name]}
        self._loaded |= changed
        is_news = self._ready.is_set() and (bool(changed) or asleep != self.asleep)
        self.asleep = asleep
        if is_news:
            self._on_models()
        if not missing:
            self._ready.set()

    def _is_as_expected(self, name: str, loaded: Loaded) -> bool:
        if loaded.tokenizer == self._expected[name]:
            return True
        log.error("%s: the workers' tokeniser is %s, this gateway's %s", name, loaded.tokenizer, self._expected[name])
        return False

    async def _check_awaited(self, age_s: float) -> None:
        """Answer from stored results, and submit again what Redis does not know (any more)."""
        now = time.monotonic()
        old = [content for content, awaited in self._awaited.items() if now - awaited.since >= age_s]
        for start in range(0, len(old), 200):
            some = old[start : start + 200]
            for content, payload in zip(some, await self._line.script("check", self._name, *some), strict=True):
                awaited = self._awaited.get(content)
                if payload:
                    self._answer(content, payload)
                elif payload is None and awaited is not None:
                    self._run_aside(self._submit_again(content, awaited))

    async def _submit_again(self, content: str, awaited: _Awaited) -> None:
        with contextlib.suppress(*AWAY, RedisError, QueueFull):
            answer = await self._submit(content, awaited, awaited.job)
            if isinstance(answer, bytes):
                self._answer(content, answer)
