"""Sleep, wake and reload of a whole fleet: by one gateway's order, carried out by every worker."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.queue import EngineStartError
from service.queue.frames import EngineModelSource
from tests.service.queue.backends import deliveries_of, engines, halves, listening, outcomes_of, until, working
from tests.service.queue.halving_engine import SLOW
from tests.service.queue.servers import VALKEY, Server, serving
from tests.service.running import DEMO
from tests.service.scripted import job


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(VALKEY, tmp_path) as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> EngineModelSource:
    """The same tokeniser in another folder, which the engine takes for other weights."""
    folder = tmp_path / "other"
    shutil.copytree(DEMO, folder)
    return EngineModelSource("prm", str(folder))


async def test_a_fleet_sleeps_without_an_engine_and_its_jobs_wait(server: Server) -> None:
    async with working(server), working(server), listening(server) as queue, listening(server) as elsewhere:
        await queue.sleep()
        assert not engines()
        await until(lambda: elsewhere.asleep, "the other gateway's knowledge")
        waiting = [asyncio.create_task(outcomes_of(queue, job(f"{n}", 300 + n))) for n in range(6)]
        _, pending = await asyncio.wait(waiting, timeout=1)
        assert len(pending) == 6
        await elsewhere.wake()
        assert [halves(await each) for each in waiting] == [[150 + n / 2] for n in range(6)]


async def test_a_worker_that_comes_while_the_fleet_sleeps_sleeps_too(server: Server) -> None:
    async with working(server), listening(server) as queue:
        await queue.sleep()
        async with working(server):
            waiting = asyncio.create_task(outcomes_of(queue, job("a", 2)))
            await asyncio.wait([waiting], timeout=3)
            assert not engines()
            await queue.wake()
            assert halves(await waiting) == [1]
            assert len(engines()) == 2


async def test_a_reload_drops_nothing_and_never_mixes_two_digests(server: Server, other: EngineModelSource) -> None:
    async with working(server), working(server), listening(server, reuse=False) as queue:
        (before,) = queue.models()
        done: list[str] = []

        async def go_on_asking(first: int) -> None:
            while True:
                (delivery,) = await deliveries_of(queue, job("a", SLOW, first))
                assert halves(list(delivery.outcomes)) == [SLOW / 2, first / 2]
                done.append(delivery.weights)

        asking = [asyncio.create_task(go_on_asking(300 + n)) for n in range(6)]
        await until(lambda: len(done) > 6, "answers")
        await queue.reload([other])
        asked = len(done)
        await until(lambda: len(done) > asked + 12, "answers by other weights")
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert all(each.cancelled() for each in asking)
        (after,) = queue.models()
        assert (before.weights, after.weights) == (f"sha256:{DEMO}", f"sha256:{other.directory}")
        changed = done.index(after.weights)
        assert set(done[:changed]) == {before.weights}
        assert set(done[changed:]) == {after.weights}


async def test_what_cannot_be_loaded_leaves_the_fleet_as_it_was(server: Server, tmp_path: Path) -> None:
    async with working(server), working(server), listening(server) as queue:
        started = queue.models()
        stranger = tmp_path / "stranger"
        shutil.copytree(DEMO.parent / "ixc_reward", stranger)
        (stranger / "tokenizer_config.json").write_text("{}")
        for folder in (tmp_path / "nowhere", stranger):
            with pytest.raises(EngineStartError):
                await queue.reload([EngineModelSource("prm", str(folder))])
            assert queue.models() == started
            assert halves(await outcomes_of(queue, job("a", 2))) == [1]


async def test_a_worker_that_comes_after_a_reload_serves_what_the_others_serve(
    server: Server, other: EngineModelSource
) -> None:
    async with working(server), listening(server, reuse=False) as queue:
        await queue.reload([other])
        async with working(server) as late:
            await until(lambda: late.is_awake, "the late worker")
            assert len(engines()) == 2
            asked = (deliveries_of(queue, job("a", SLOW, 300 + n)) for n in range(12))
            found = [delivery for deliveries in await asyncio.gather(*asked) for delivery in deliveries]
        assert {delivery.weights for delivery in found} == {f"sha256:{other.directory}"}


async def test_a_new_fleet_may_serve_other_weights_as_soon_as_the_old_one_has_gone(
    server: Server, other: EngineModelSource
) -> None:
    async with working(server) as old:
        await until(lambda: old.is_awake, "the old worker")
    model = (f"prm={other.directory}",)
    async with working(server, model=model) as one, working(server, model=model) as two:
        await until(lambda: one.is_awake and two.is_awake, "the new workers")
        async with listening(server) as queue:
            (served,) = queue.models()
            assert served.weights == f"sha256:{other.directory}"
            assert halves(await outcomes_of(queue, job("a", 2))) == [1]
