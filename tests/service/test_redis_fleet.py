"""Gateway, Redis and worker as real processes: jobs and orders go all the way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtest.fleet import Fleet, Plan
from steelyard import AsyncClient
from steelyard.errors import CannotLoad
from steelyard.schema import JobRow, ScoreStepsResponse
from tests.service.running import DEMO
from tests.service.test_loading import other_weights

ADMIN = "admin"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    options = ("--batch-invariant", f"--admin-key={ADMIN}")
    async with Fleet(Plan(tmp_path, workers=1, queue=True, models=(f"prm={DEMO}",), options=options)) as started:
        yield started


def bodies(count: int) -> list[dict[str, object]]:
    return [{"question": f"Which of {number}?", "candidates": ["A.\n\nB.", "C."]} for number in range(count)]


async def all_rows(client: AsyncClient, job: str) -> list[JobRow]:
    rows: list[JobRow] = []
    cursor, done = "0", False
    while not done:
        page = await client.job_results(job, cursor, wait_s=5)
        rows, cursor, done = [*rows, *page.rows], page.cursor, page.done
    return rows


async def test_a_job_outlives_its_gateway_and_redis(fleet: Fleet) -> None:
    groups = bodies(60)
    async with AsyncClient(fleet.urls[0]) as client:
        direct = await client.score_steps("Which of 7?", [], ["A.\n\nB.", "C."])
        job = await client.create_job(groups)
        gateway, valkey = fleet.gateways[0], fleet.valkey
        assert valkey is not None
        for process in (gateway.process, valkey.process):
            await process.kill()
        await valkey.start()
        gateway.process.start()
        await gateway.await_address()
        await fleet.await_ready()
        rows = await all_rows(client, job.id)
    assert sorted(row.index for row in rows) == list(range(len(groups)))
    (seventh,) = (row.answer for row in rows if row.index == 7)
    assert isinstance(seventh, ScoreStepsResponse)
    assert seventh.results == direct.results


async def test_orders_reach_the_worker_through_redis(fleet: Fleet, tmp_path: Path) -> None:
    other = other_weights(tmp_path / "other")
    async with AsyncClient(fleet.urls[0], api_key=ADMIN) as client:
        before = await client.score_steps("Which?", [], ["A.", "B."])
        assert (await client.sleep()).status == "asleep"
        assert fleet.workers[0].engine() is None
        waiting = asyncio.create_task(client.score_steps("Another?", [], ["A.", "B."]))
        assert (await client.wake()).status == "awake"
        assert (await waiting).provenance.weights == before.provenance.weights
        with pytest.raises(CannotLoad, match="missing"):
            await client.reload({"prm": tmp_path / "missing"})
        loaded = await client.reload({"prm": other})
        after = await client.score_steps("Which?", [], ["A.", "B."])
    assert after.provenance.weights == loaded.models[0].provenance.weights != before.provenance.weights
    assert after.results != before.results
