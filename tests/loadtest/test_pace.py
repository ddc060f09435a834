"""Faults fall among the groups, whichever of the two would be faster alone."""

import asyncio

from loadtest.pace import Pace


async def trace(groups: int, faults: int, at_once: int) -> list[str]:
    """What happens in which order when both go as fast as they may."""
    pace, happened = Pace(groups, faults), list[str]()
    left = iter(range(groups))

    async def send() -> None:
        for number in left:
            await pace.may_send(number)
            happened.append("group")
            await asyncio.sleep(0)
            await pace.settle()

    async def inject() -> None:
        for _ in range(faults):
            await pace.may_inject()
            happened.append("fault")
            await pace.inject()

    async with asyncio.timeout(30), asyncio.TaskGroup() as both:
        both.create_task(inject())
        for _ in range(at_once):
            both.create_task(send())
    return happened


async def test_faults_fall_evenly_among_the_groups() -> None:
    happened = await trace(groups=1_000, faults=9, at_once=16)
    assert (happened.count("group"), happened.count("fault")) == (1_000, 9)
    places = [place for place, what in enumerate(happened) if what == "fault"]
    between = [later - earlier for earlier, later in zip([0, *places], [*places, len(happened)], strict=True)]
    assert all(25 <= stride <= 200 for stride in between)


async def test_groups_wait_for_a_slow_fault() -> None:
    pace = Pace(100, 1)
    sending = [asyncio.create_task(pace.may_send(number)) for number in range(100)]
    await asyncio.wait(sending, timeout=0.1)
    assert sum(task.done() for task in sending) == 75
    await pace.inject()
    await asyncio.gather(*sending)


async def test_a_fault_waits_for_groups() -> None:
    pace = Pace(100, 1)
    injecting = asyncio.create_task(pace.may_inject())
    for _ in range(24):
        await pace.settle()
    await asyncio.sleep(0)
    assert not injecting.done()
    await pace.settle()
    await injecting


async def test_without_faults_nothing_waits() -> None:
    assert await trace(groups=50, faults=0, at_once=4) == ["group"] * 50


async def test_more_faults_than_groups_come_to_an_end() -> None:
    happened = await trace(groups=5, faults=20, at_once=2)
    assert (happened.count("group"), happened.count("fault")) == (5, 20)
