"""Real servers as a fleet: they keep their addresses through kills, and a chaos run over them holds its books."""

import random
from collections import Counter
from pathlib import Path

import psutil
import pytest

from loadtest.chaos import Campaign, run
from loadtest.faults import FAULTS, draw_faults, kill_engine, kill_gateway
from loadtest.fleet import Fleet, Plan
from steelyard import AsyncClient
from tests.service.running import DEMO, is_gone, until

MODELS = (f"visualprm={DEMO}",)


def drawn(plan: Plan, count: int, seed: int = 0) -> list[str]:
    return [fault.name for fault in draw_faults(plan, count, random.Random(seed))]


def test_a_fleet_without_redis_has_none_of_its_faults() -> None:
    counted = Counter(drawn(Plan(Path("unused"), gateways=2), 11))
    assert counted.keys() == {"engine killed", "gateway killed"}


def test_a_whole_fleet_has_every_fault_as_often_as_the_next() -> None:
    counted = Counter(drawn(Plan(Path("unused"), gateways=2, workers=3, queue=True), 100))
    assert counted == dict.fromkeys((fault.name for fault in FAULTS), 10)


def test_the_seed_orders_the_faults() -> None:
    plan = Plan(Path("unused"), gateways=2)
    assert drawn(plan, 20, seed=1) == drawn(plan, 20, seed=1) != drawn(plan, 20, seed=2)


async def test_a_killed_gateway_comes_back_at_its_address_and_all_end_with_the_fleet(tmp_path: Path) -> None:
    async with Fleet(Plan(tmp_path, gateways=1, models=MODELS)) as fleet:
        (gateway,), draws = fleet.gateways, random.Random(0)
        before, url = gateway.process.pid, gateway.url
        await kill_gateway(fleet, draws)
        assert gateway.process.pid != before
        await gateway.await_address()
        assert gateway.url == url
        engine = gateway.process.engine()
        assert engine is not None
        assert await kill_engine(fleet, draws) == "of gateway-0"
        until(lambda: is_gone(engine), "the end of the engine")
        await fleet.await_ready()
        async with AsyncClient(url) as client:
            answer = await client.score_steps("Which?", [], ["A.", "B."])
        assert answer.provenance.batch_invariant
        server = psutil.Process(gateway.process.pid)
    until(lambda: is_gone(server), "the end of the gateway")


@pytest.mark.slow
async def test_a_run_with_kills_loses_doubles_and_mistakes_nothing(tmp_path: Path) -> None:
    campaign = Campaign(groups=120, faults=4, distinct=40, in_flight=16, deadline_s=120, seed=3)
    plans = (Plan(tmp_path / "alone", models=MODELS), Plan(tmp_path / "fleet", gateways=2, models=MODELS))
    outcome = await run(campaign, *plans)
    assert outcome.verdict.broken == {
        "lost": (),
        "duplicated": (),
        "wrong": (),
        "refused": (),
        "forgotten": (),
    }
    assert outcome.verdict.accepted == outcome.verdict.answered == 120
    assert outcome.injected == {"engine killed": 2, "gateway killed": 2}
    # Each group, and each once more.
    assert outcome.attempts["answered"] == 240
