"""Jobs in Redis by way of the routes, without an engine: what is taken, and what is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from service.app import create_app
from service.jobs import make_store
from service.jobs.store import JobLimits
from service.settings import Settings
from tests.service.jobs.test_jobs import NDJSON, begun, body, steps
from tests.service.jobs.valkey import connected, valkey
from tests.service.running import refused


@asynccontextmanager
async def gateway(folder: Path, *, durable: bool) -> AsyncIterator[httpx2.AsyncClient]:
    with valkey(folder, durable=durable) as server:
        async with connected(server) as redis:
            app = create_app(Settings())
            app.state.gateway.jobs = make_store(redis, JobLimits(groups=10, bytes=100_000, ttl_s=60))
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway") as client:
                yield client


async def test_a_redis_that_would_lose_the_jobs_is_given_none(tmp_path: Path) -> None:
    async with gateway(tmp_path, durable=False) as client:
        for answer in (
            await client.post("/jobs", content=body(steps(0)), headers=NDJSON),
            await client.put("/uploads", content=body(steps(0))),
        ):
            assert "appendonly" in refused(answer, 503, "unavailable")
            assert answer.headers["retry-after"]


async def test_a_durable_redis_takes_them_for_the_gateways_to_come(tmp_path: Path) -> None:
    async with gateway(tmp_path, durable=True) as client:
        job = begun(await client.post("/jobs", content=body(steps(0)), headers=NDJSON))
        assert (job.status, job.durable) == ("running", True)
    async with gateway(tmp_path, durable=True) as client:
        assert (await client.get(f"/jobs/{job.id}")).json()["groups"] == 1
        assert (await client.get(f"/jobs/{job.id}/results")).json() == {"cursor": "0", "done": False}
