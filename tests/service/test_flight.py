"""A group under way: who waits for it, and what a repeated id finds."""

import asyncio

import pytest

from service.errors import IdReused, Unavailable
from service.flight import Abandoned, Flight
from service.replay import ReplayStore
from steelyard.schema import Provenance, ScoredGroup, StepScores, Timings, Usage

GROUP = ScoredGroup(
    id="g",
    object="step_scores",
    model="m",
    best=0,
    ranking=[0],
    usage=Usage(prompt_tokens=1, computed_tokens=1, cached_tokens=0, tiles=0),
    provenance=Provenance(
        model="m",
        family="f",
        revision=None,
        weights="w",
        tokenizer="t",
        dtype="float32",
        batch_invariant=False,
        version="0",
    ),
    timings_ms=Timings(encode=0, queue=0, forward=0, total=0),
)


def result(index: int) -> StepScores:
    return StepScores(index=index, status="ok", score=0.5)


async def test_each_waiter_sees_every_result_once_whenever_it_comes() -> None:
    flight, go = Flight(), asyncio.Event()

    async def score() -> ScoredGroup:
        flight.publish(result(1))
        await go.wait()
        flight.publish(result(0))
        return GROUP

    flight.start(score)

    async def listen() -> list[int]:
        with flight.attended():
            seen = [found.index async for found in flight.stream()]
            assert await flight.group() is GROUP
            return seen

    early = asyncio.create_task(listen())
    async with asyncio.timeout(5):
        while not flight.results:
            await asyncio.sleep(0)
        late = asyncio.create_task(listen())
        go.set()
        assert await early == await late == [1, 0]
        assert await listen() == [1, 0]


async def test_work_is_dropped_when_the_last_waiter_leaves() -> None:
    flight, cancelled = Flight(), asyncio.Event()

    async def score() -> ScoredGroup:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return GROUP

    flight.start(score)
    with flight.attended():
        with flight.attended():
            await asyncio.sleep(0)
        assert not flight.failed
        await asyncio.sleep(0)
        assert not cancelled.is_set()
    async with asyncio.timeout(5):
        await cancelled.wait()
    with pytest.raises(Abandoned):
        await flight.group()


async def test_an_error_reaches_every_waiter() -> None:
    flight = Flight()

    async def score() -> ScoredGroup:
        raise Unavailable("not now")

    flight.start(score)
    with flight.attended():
        with pytest.raises(Unavailable):
            await flight.group()
        with pytest.raises(Unavailable):
            await anext(flight.stream())


async def landed() -> Flight:
    flight = Flight()

    async def score() -> ScoredGroup:
        flight.publish(result(0))
        return GROUP

    flight.start(score)
    with flight.attended():
        await flight.group()
    return flight


async def test_the_same_body_finds_its_flight_and_another_body_is_refused() -> None:
    replay, flight = ReplayStore(ttl_s=60, budget_bytes=10**6), await landed()
    replay.start(("me", "x"), b"body", flight)
    for _ in range(2):  # under way, then landed
        assert replay.find(("me", "x"), b"body") is flight
        assert replay.find(("you", "x"), b"body") is None
        with pytest.raises(IdReused):
            replay.find(("me", "x"), b"another")
        replay.end(("me", "x"), flight)


async def test_answers_leave_after_their_time_and_over_the_budget() -> None:
    brief, flight = ReplayStore(ttl_s=0, budget_bytes=10**6), await landed()
    brief.start(("me", "x"), b"body", flight)
    brief.end(("me", "x"), flight)
    assert brief.find(("me", "x"), b"body") is None
    small, flights = ReplayStore(ttl_s=60, budget_bytes=2_000), [await landed(), await landed()]
    for name, flight in zip("ab", flights, strict=True):
        small.start(("me", name), b"body", flight)
        small.end(("me", name), flight)
    assert small.find(("me", "a"), b"body") is None
    assert small.find(("me", "b"), b"body") is flights[1]


async def test_a_group_under_way_is_found_however_long_it_takes_and_whatever_it_weighs() -> None:
    replay, flight = ReplayStore(ttl_s=0, budget_bytes=0), Flight()
    replay.start(("me", "x"), b"body", flight)
    assert replay.find(("me", "x"), b"body") is flight


async def test_a_flight_that_failed_leaves_nothing_behind() -> None:
    replay, flight = ReplayStore(ttl_s=60, budget_bytes=10**6), Flight()

    async def score() -> ScoredGroup:
        raise Unavailable("not now")

    replay.start(("me", "x"), b"body", flight)
    flight.start(score, lambda: replay.end(("me", "x"), flight))
    with flight.attended(), pytest.raises(Unavailable):
        await flight.group()
    await asyncio.sleep(0)
    assert replay.find(("me", "x"), b"body") is None
    assert replay.find(("me", "x"), b"another") is None
