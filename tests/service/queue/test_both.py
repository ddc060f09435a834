"""What every queue keeps, whoever carries the jobs: memory, Valkey, and the oldest supported Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from service.queue import QueueUnavailable
from service.queue.memory import MemoryQueue
from service.queue.redis import RedisQueue
from tests.service.queue.backends import deliveries_of, engines, halves, in_memory, outcomes_of, through_redis, until
from tests.service.queue.halving_engine import DEADLY, DEADLY_LATER, SLOW
from tests.service.queue.servers import OLDEST, VALKEY, serving
from tests.service.scripted import PICTURE, job

Queue = MemoryQueue | RedisQueue


@pytest.fixture(params=["memory", "valkey", "oldest"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Queue]:
    if request.param == "memory":
        async with in_memory() as memory:
            yield memory
        return
    with serving(VALKEY if request.param == "valkey" else OLDEST, tmp_path) as server:
        async with through_redis(server) as redis:
            yield redis


class TestQueue:
    async def test_each_candidate_gets_its_outcome(self, queue: Queue) -> None:
        assert halves(await outcomes_of(queue, job("a", 2, 4, 6))) == [1, 2, 3]

    async def test_many_at_once_are_not_mixed_up(self, queue: Queue) -> None:
        jobs = [job(f"job {number}", 100 + number, 1000 + number) for number in range(200)]
        answers = await asyncio.gather(*(outcomes_of(queue, each) for each in jobs))
        assert [halves(answer) for answer in answers] == [[50 + n / 2, 500 + n / 2] for n in range(200)]

    async def test_a_group_larger_than_a_batch_is_answered_as_one(self, queue: Queue) -> None:
        firsts = range(200, 240)
        assert halves(await outcomes_of(queue, job("large", *firsts))) == [first / 2 for first in firsts]

    async def test_a_candidate_that_kills_engines_is_given_up_alone(self, queue: Queue) -> None:
        good = [outcomes_of(queue, job(f"good {number}", 300 + number)) for number in range(20)]
        bad, *others = await asyncio.gather(outcomes_of(queue, job("bad", DEADLY)), *good)
        assert [(outcome.status, outcome.retryable) for outcome in bad] == [("failed", False)]
        assert "died 3 times" in (bad[0].detail or "")
        assert [halves(other) for other in others] == [[150 + n / 2] for n in range(20)]

    async def test_what_only_a_used_engine_dies_of_is_scored_by_a_fresh_one(self, queue: Queue) -> None:
        await outcomes_of(queue, job("first", 2))
        assert halves(await outcomes_of(queue, job("second", DEADLY_LATER))) == [DEADLY_LATER / 2]

    async def test_a_death_of_the_engine_loses_nothing(self, queue: Queue) -> None:
        slow = [asyncio.create_task(outcomes_of(queue, job(f"slow {n}", SLOW, 400 + n))) for n in range(4)]
        await until(engines, "an engine")
        await asyncio.sleep(0.1)
        engines()[0].kill()
        assert [halves(await each) for each in slow] == [[SLOW / 2, 200 + n / 2] for n in range(4)]

    async def test_pictures_reach_the_engine(self, queue: Queue) -> None:
        with_picture = job("seen", 8, pictures=(PICTURE,))
        (delivery,) = await deliveries_of(queue, with_picture, {PICTURE.digests[0]: b"pixels"})
        assert (halves(list(delivery.outcomes)), delivery.tiles) == ([4], 1)

    async def test_a_broken_picture_fails_its_job_alone(self, queue: Queue) -> None:
        with_picture = job("seen", 8, pictures=(PICTURE,))
        (outcome,) = await outcomes_of(queue, with_picture, {PICTURE.digests[0]: b"broken"})
        assert outcome.status == "failed"
        assert halves(await outcomes_of(queue, job("after", 10))) == [5]

    async def test_a_passed_deadline_is_told(self, queue: Queue) -> None:
        late = job("late", 12, deadline=time.monotonic() - 1)
        assert [(o.status, o.retryable) for o in await outcomes_of(queue, late)] == [("expired", True)]

    async def test_a_deadline_far_away_is_kept(self, queue: Queue) -> None:
        assert halves(await outcomes_of(queue, job("early", 16, deadline=time.monotonic() + 3600))) == [8]

    async def test_a_number_that_is_none_is_a_failure(self, queue: Queue) -> None:
        bad, good = await outcomes_of(queue, job("nan", 99, 18))
        assert (bad.status, halves([good])) == ("failed", [9])

    async def test_urgent_groups_pass_those_that_wait(self, queue: Queue) -> None:
        done: list[str] = []

        async def score(name: str, first: int, rank: int) -> None:
            await outcomes_of(queue, job(name, first, rank=rank, tokens=90))
            done.append(name)

        busy = asyncio.create_task(score("busy", SLOW, 2))
        await asyncio.sleep(0.05)
        # The first ten take long, so that the urgent one comes while they wait, however slow this machine is.
        waiting = (score(f"batch {n}", SLOW if n < 10 else 500 + n, 2) for n in range(30))
        await asyncio.gather(*waiting, score("online", 600, 0), busy)
        assert done.index("online") <= 10

    async def test_a_caller_who_leaves_harms_nobody(self, queue: Queue) -> None:
        async with asyncio.timeout(20), aclosing(queue.submit(job("left", SLOW), {})) as leaving:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(leaving), 0.05)
        assert halves(await outcomes_of(queue, job("stays", 20))) == [10]

    async def test_nothing_is_accepted_at_the_end(self, queue: Queue) -> None:
        await queue.close()
        with pytest.raises(QueueUnavailable, match="stopping"):
            await outcomes_of(queue, job("late", 2))
