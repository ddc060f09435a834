"""What a fleet's workers have loaded is one thing, also where the next fleet starts while its record lasts."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from service.job import EngineModel
from service.queue.redis_codec import Loaded, Standing
from service.queue.redis_worker import OtherFleet, RedisWorker
from tests.service.queue.servers import OLDEST, VALKEY, Server, serving

AWAKE, LOADING = Standing("awake"), Standing("loading")
FIRST, SECOND = (Loaded(EngineModel("prm", weights, "float32"), "sha256:t", False) for weights in ("old", "new"))


@pytest.fixture(params=[VALKEY, OLDEST], ids=["valkey", "oldest"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with serving(request.param, tmp_path) as running:
        yield running


@asynccontextmanager
async def workers(server: Server, count: int) -> AsyncIterator[list[RedisWorker]]:
    """They leave with the context."""
    async with AsyncExitStack() as leaving:
        made = [
            RedisWorker(server.url, ["prm"], result_ms=1000, result_bytes=1000, steal_ms=1000) for _ in range(count)
        ]
        for worker in made:
            leaving.push_async_callback(worker.close)
        yield made


async def test_workers_of_a_new_fleet_that_start_together_do_not_take_each_other_for_the_old_one(
    server: Server,
) -> None:
    async with workers(server, 1) as (old,):
        await old.beat(AWAKE)
        await old.register([FIRST], 0)
    async with workers(server, 2) as (one, two):
        await one.beat(AWAKE)
        await two.beat(AWAKE)
        await one.register([SECOND], 0)
        await two.register([SECOND], 0)
        assert await one.is_served(0)


async def test_one_that_serves_it_still_keeps_others_out(server: Server) -> None:
    async with workers(server, 3) as (old, other, new):
        for worker in (old, other, new):
            await worker.beat(AWAKE)
        await old.register([FIRST], 0)
        await other.register([FIRST], 0)
        await old.close()
        with pytest.raises(OtherFleet, match="prm"):
            await new.register([SECOND], 0)


async def test_after_a_reload_those_of_the_old_weights_are_kept_out(server: Server) -> None:
    async with workers(server, 2) as (reloaded, late):
        await late.beat(AWAKE)
        await late.register([FIRST], 0)
        await reloaded.beat(AWAKE)
        await reloaded.register([SECOND], 1)
        with pytest.raises(OtherFleet, match="prm"):
            await late.register([FIRST], 0)
        await reloaded.beat(LOADING)
        await late.register([FIRST], 1)
