"""What only the queue in Redis has to keep: several gateways, several workers, and a Redis that comes and goes."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest

from service.job import Job, Outcome
from service.queue import QueueFull, QueueUnavailable
from service.queue import redis_keys as keys
from service.queue.redis import RedisQueue
from service.queue.redis_worker import BEAT_S, OtherFleet
from service.worker_loop import Worker
from tests.service.queue.backends import (
    ENGINE,
    PATIENCE_S,
    deliveries_of,
    halves,
    listening,
    opened,
    outcomes_of,
    until,
    worker_settings,
    working,
)
from tests.service.queue.halving_engine import DEADLY, SLOW
from tests.service.queue.servers import VALKEY, Server, serving
from tests.service.running import DEMO, ROOT
from tests.service.scripted import PICTURE, job


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(VALKEY, tmp_path) as running:
        yield running


@contextmanager
def worker_process(server: Server, *options: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "tests.service.queue.halving_worker", "--queue", server.url, "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--model", f"prm={DEMO}", "--batch-tokens", "100", "--log-level", "error", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def names(server: Server, pattern: str) -> list[str]:
    with closing(server.client()) as client:
        return sorted(name.decode() for name in cast(list[bytes], client.keys(f"{keys.PREFIX}{pattern}")))


def count(server: Server, pattern: str) -> int:
    return len(names(server, pattern))


async def accepted(queue: RedisQueue, asked: Job) -> list[Outcome]:
    """As soon as the queue takes it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await outcomes_of(queue, asked)
            except QueueUnavailable:
                await asyncio.sleep(0.1)


class TestOnceOnly:
    async def test_the_same_content_in_flight_is_computed_once(self, server: Server) -> None:
        async with working(server), listening(server) as one, listening(server) as other:
            asked = [deliveries_of(queue, job(name, SLOW)) for queue, name in ((one, "a"), (one, "b"), (other, "c"))]
            found = [delivery for deliveries in await asyncio.gather(*asked) for delivery in deliveries]
        assert [halves(list(delivery.outcomes)) for delivery in found] == [[SLOW / 2]] * 3
        assert sorted(delivery.computed_tokens for delivery in found) == [0, 0, 10]

    async def test_a_stored_result_is_given_to_whoever_asks_again(self, server: Server) -> None:
        async with working(server), listening(server) as one, listening(server) as other:
            (first,) = await deliveries_of(one, job("a", 2))
            (again,) = await deliveries_of(other, job("b", 2))
        assert (first.computed_tokens, again.computed_tokens) == (10, 0)
        assert first.outcomes == again.outcomes

    async def test_it_is_not_where_the_setting_says_so(self, server: Server) -> None:
        async with working(server), listening(server, reuse=False) as queue:
            costs = [(await deliveries_of(queue, job("a", 2)))[0].computed_tokens for _ in range(2)]
        assert costs == [10, 10]

    async def test_a_failure_is_tried_again(self, server: Server) -> None:
        late = job("late", 2, deadline=time.monotonic() - 1)
        async with working(server), listening(server) as queue:
            assert [outcome.status for outcome in await outcomes_of(queue, late)] == ["expired"]
            assert halves(await outcomes_of(queue, dataclasses.replace(late, deadline=None))) == [1]

    async def test_results_stay_within_their_bytes(self, server: Server) -> None:
        async with working(server, result_bytes=3000), listening(server) as queue:
            for first in range(100, 140):
                await outcomes_of(queue, job("a", first))
            assert 1 <= count(server, "result:*") <= 10
            (newest,) = await deliveries_of(queue, job("a", 139))
        assert newest.computed_tokens == 0

    async def test_nothing_is_left_when_all_is_answered_and_its_time_is_up(self, server: Server) -> None:
        async with working(server, result_s=1), listening(server) as queue:
            await asyncio.gather(*(outcomes_of(queue, job("a", first)) for first in range(100, 200)))
            await until(lambda: not count(server, "result*"), "the results' end")
            assert not names(server, "job:*") + names(server, "hand:*") + names(server, "dead*")
            with closing(server.client()) as client:
                assert all(client.xlen(stream) == 0 for stream in keys.streams("prm"))
                waiting = client.hmget(keys.load("prm"), "0", "1", "2")
                assert [int(tokens or 0) for tokens in waiting] == [0, 0, 0]


class TestWorkers:
    async def test_a_dead_workers_jobs_go_to_another(self, server: Server) -> None:
        with worker_process(server) as doomed:
            async with listening(server) as queue:
                slow = [asyncio.create_task(outcomes_of(queue, job(f"{n}", SLOW, 300 + n))) for n in range(6)]
                await until(lambda: count(server, "hand:*"), "a job in hand")
                for process in (*doomed.children(), doomed):
                    process.kill()
                async with working(server):
                    assert [halves(await each) for each in slow] == [[SLOW / 2, 150 + n / 2] for n in range(6)]

    async def test_a_worker_that_stops_finishes_or_gives_back(self, server: Server) -> None:
        with worker_process(server, "--drain-s", "0") as leaving:
            async with listening(server) as queue:
                slow = [asyncio.create_task(outcomes_of(queue, job(f"{n}", SLOW, 300 + n))) for n in range(6)]
                await until(lambda: count(server, "hand:*"), "a job in hand")
                leaving.terminate()
                async with working(server):
                    started = time.monotonic()
                    assert [halves(await each) for each in slow] == [[SLOW / 2, 150 + n / 2] for n in range(6)]
        # Nobody had to be declared dead first.
        assert time.monotonic() - started < 8

    async def test_other_weights_under_one_name_are_refused(self, server: Server) -> None:
        async with working(server):
            await until(lambda: names(server, "fleet:prm"), "the first worker")
            elsewhere = DEMO.parent / "ixc_reward"
            stranger = Worker(worker_settings(server, model=(f"prm={elsewhere}",)), lambda: None, ENGINE)
            with pytest.raises(OtherFleet, match="prm: the other workers serve something else"):
                await stranger.run()

    async def test_one_opening_comes_to_one_worker_and_idle_ones_help(self, server: Server) -> None:
        async with working(server), working(server), listening(server) as queue:
            # Leases settle within two beats of each worker.
            await until(lambda: count(server, "lease:prm:*") == keys.SHARDS, "all leases")
            with closing(server.client()) as client:
                await until(lambda: len(set(client.mget(names(server, "lease:prm:*")))) == 2, "two owners")
            started = time.monotonic()
            await asyncio.gather(
                *(outcomes_of(queue, opened(job(f"{n}", SLOW, 300 + n, tokens=90), "00000001")) for n in range(10))
            )
            # One opening, one shard; yet two engines of a fifth of a second each shared the work.
            assert time.monotonic() - started < 10 * 2 * 0.2 * 0.85


class TestPoison:
    async def test_a_job_that_kills_workers_is_a_dead_letter_and_can_be_retried(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            (bad,) = await outcomes_of(queue, job("bad", DEADLY))
            assert (bad.status, bad.retryable) == ("failed", False)
            listed = dead_letters(server, "list")
            assert "died 3 times" in listed
            content = listed.split()[0]
            # Whoever asks again meanwhile learns it at once, and no engine dies.
            (again,) = await deliveries_of(queue, job("again", DEADLY))
            assert (again.outcomes[0].status, again.forward_ms) == ("failed", 0)
            dead_letters(server, "retry", content)
            await until(lambda: "died 3 times" in dead_letters(server, "list"), "its second burial")
            dead_letters(server, "drop", content)
            assert not names(server, "dead*")
            assert halves(await outcomes_of(queue, job("good", 2))) == [1]


def dead_letters(server: Server, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "service.dead_letters", "--queue", server.url, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout


class TestRedisItself:
    async def test_what_was_accepted_survives_its_restart(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            slow = [asyncio.create_task(outcomes_of(queue, job(f"{n}", SLOW, 300 + n))) for n in range(8)]
            await until(lambda: count(server, "hand:*"), "a job in hand")
            server.kill()
            await asyncio.sleep(0.5)
            server.start()
            assert [halves(await each) for each in slow] == [[SLOW / 2, 150 + n / 2] for n in range(8)]

    async def test_waiting_callers_are_answered_though_it_forgot_everything(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            slow = [asyncio.create_task(outcomes_of(queue, job(f"{n}", SLOW, 300 + n))) for n in range(8)]
            await until(lambda: count(server, "hand:*"), "a job in hand")
            with closing(server.client()) as client:
                client.flushall()
            assert [halves(await each) for each in slow] == [[SLOW / 2, 150 + n / 2] for n in range(8)]

    async def test_a_lost_reply_is_found_as_the_stored_result(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            waiting = asyncio.create_task(outcomes_of(queue, job("a", SLOW)))
            await until(lambda: count(server, "hand:*"), "a job in hand")
            with closing(server.client()) as client:
                # As if no gateway were known when the result came.
                for field in cast(list[bytes], client.hkeys(names(server, "job:*")[0])):
                    if field.startswith(b"w:"):
                        client.hdel(names(server, "job:*")[0], field)
            assert halves(await waiting) == [SLOW / 2]

    async def test_nothing_is_accepted_while_it_is_away(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            server.kill()
            with pytest.raises(QueueUnavailable, match="Redis does not answer"):
                await outcomes_of(queue, job("a", 2))
            server.start()

            assert halves(await accepted(queue, job("a", 2))) == [1]

    async def test_too_much_is_refused_and_urgent_groups_keep_a_share(self, server: Server) -> None:
        async with working(server), listening(server, tokens=100) as queue:
            busy = asyncio.create_task(outcomes_of(queue, job("busy", SLOW, tokens=85)))
            await until(lambda: count(server, "hand:*"), "a job in hand")
            with pytest.raises(QueueFull, match="85 tokens wait") as refusal:
                await outcomes_of(queue, job("more", 2))
            assert 1 <= refusal.value.retry_after_s <= 60
            assert halves(await outcomes_of(queue, job("urgent", 4, rank=0))) == [2]
            await busy

    async def test_pictures_are_stored_once_and_outlive_the_job(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            blobs = {PICTURE.digests[0]: b"pixels"}
            for first in (2, 4):
                await outcomes_of(queue, job("a", first, pictures=(PICTURE,), deadline=time.monotonic() + 100), blobs)
            with closing(server.client()) as client:
                assert 3600 < client.ttl(keys.blob(PICTURE.digests[0])) <= 3700
            assert await queue.blob(PICTURE.digests[0]) == b"pixels"

    async def test_a_caller_who_leaves_takes_along_what_nobody_began(self, server: Server) -> None:
        async with working(server), listening(server) as queue:
            busy = [asyncio.create_task(outcomes_of(queue, job(f"{n}", SLOW, 300 + n, tokens=60))) for n in range(3)]
            await until(lambda: count(server, "hand:*"), "a job in hand")
            await asyncio.sleep(0.05)
            leaving = queue.submit(job("left", 444, tokens=60), {})
            async with aclosing(leaving):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(leaving), 0.05)
            await asyncio.gather(*busy)
            await until(lambda: not count(server, "job:*"), "an empty queue")

    async def test_jobs_taken_without_the_workers_knowledge_go_back(self, server: Server) -> None:
        """As when a connection is cut while the answer to `take` is on its way."""
        async with working(server) as worker, listening(server) as queue:
            with closing(server.client()) as client:
                busy = asyncio.create_task(outcomes_of(queue, job("busy", SLOW, tokens=99)))
                await until(lambda: count(server, "hand:*"), "a job in hand")
                waiting = [asyncio.create_task(outcomes_of(queue, job("a", 300 + n, tokens=99))) for n in range(20)]
                await until(lambda: count(server, "job:*") == 21, "all jobs")
                sources = [word for stream in keys.streams("prm") for word in (stream, 0)]
                taken = cast(
                    list[object],
                    client.eval(keys.script_texts()["take"], 0, worker.name, 10_000, 100, *sources),
                )
                assert len(taken) > 10
            assert [halves(await each) for each in waiting] == [[150 + n / 2] for n in range(20)]
            await busy

    async def test_workers_outlive_a_redis_without_memory(self, server: Server) -> None:
        async with working(server), listening(server, reuse=False) as queue:
            slow = asyncio.create_task(outcomes_of(queue, job("slow", SLOW)))
            await until(lambda: count(server, "hand:*"), "a job in hand")
            with closing(server.client()) as client:
                client.config_set("maxmemory", "1")
                await asyncio.sleep(3 * BEAT_S)
                with pytest.raises(QueueUnavailable):
                    await outcomes_of(queue, job("refused", 2))
                client.config_set("maxmemory", "0")
            assert halves(await slow) == [SLOW / 2]
            assert halves(await accepted(queue, job("after", 4))) == [2]
