"""The generator against real sockets: it keeps its plan, and counts what the plan's callers would have seen."""

import asyncio
import time
from itertools import count, islice
from typing import Any

import pytest

from loadtest.arrivals import Arrival
from loadtest.bodies import Bodies, prepare
from loadtest.open_loop import OpenLoop
from loadtest.workload import Shape, groups
from steelyard.schema import Priority
from tests.loadtest.http_server import Written, serving

OK = Written(body='{"results":[{"index":0,"status":"ok"},{"index":1,"status":"expired"}]}')


def bodies() -> Bodies:
    return prepare(list(islice(groups(Shape(pictures=0), 0), 8)), {}, host="here")


def every(gap_s: float, requests: int) -> list[Arrival]:
    return [Arrival(number * gap_s, "train") for number in range(requests)]


async def test_a_stall_shows_in_every_request_that_was_planned_within_it() -> None:
    """A closed loop would have sent one request into the stall, and called 199 of 200 fast."""
    numbers, stalled = count(), asyncio.Event()
    stalled.set()

    async def respond(_: dict[str, Any]) -> Written:
        if next(numbers) == 50:
            stalled.clear()
            asyncio.get_running_loop().call_later(0.5, stalled.set)
        await stalled.wait()
        return OK

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0.01, 200), drain_s=10)
    accepted = tally.of("train").accepted
    assert accepted.count == 200
    # 50 of 200 were planned within the half second, evenly: a fifth of all waited a tenth of a second or more.
    assert accepted.percentile(85) >= 0.1
    assert accepted.percentile(95) >= 0.25
    assert accepted.percentile(50) < 0.1


async def test_a_late_send_is_part_of_the_latency() -> None:
    async def respond(_: dict[str, Any]) -> Written:
        return OK

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0, 1), drain_s=10, start=time.monotonic() - 3)
    assert tally.of("train").accepted.longest_s >= 3
    assert tally.late.longest_s >= 3


async def test_the_plan_is_sent_although_nobody_answers() -> None:
    seen = []

    async def respond(request: dict[str, Any]) -> Written:
        seen.append(request["question"])
        await asyncio.Event().wait()
        return OK

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0.001, 100), drain_s=0.5)
        assert loop.under_way == 100
    assert len(set(seen)) == 100
    assert (tally.of("train").planned, tally.of("train").unanswered, tally.of("train").improper) == (100, 100, 100)


async def test_more_than_it_may_hold_are_counted_as_not_sent() -> None:
    async def respond(_: dict[str, Any]) -> Written:
        await asyncio.Event().wait()
        return OK

    async with serving(respond) as url, OpenLoop([url], bodies(), most_open=10) as loop:
        tally = await loop.run(every(0.001, 30), drain_s=0.2)
    assert (tally.of("train").planned, tally.of("train").unsent) == (30, 20)


async def test_answers_are_counted_by_status_candidates_and_retry_after() -> None:
    answers = iter([OK, OK, Written(429, headers={"Retry-After": "7"}), Written(429), Written(503), Written(0)])

    async def respond(_: dict[str, Any]) -> Written:
        return next(answers)

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        series = (await loop.run(every(0.02, 6), drain_s=10)).of("train")
    assert series.statuses == {200: 2, 429: 2, 503: 1}
    assert series.candidates == {"ok": 2, "expired": 2}
    assert series.retry_after == {"7": 1}
    assert series.unexplained == 1
    assert series.broken.total() == 1 - series.unanswered
    # The 429 that does not say when, the 503 and the closed connection.
    assert series.improper == 3


async def test_connections_are_kept() -> None:
    async def respond(_: dict[str, Any]) -> Written:
        return OK

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0.01, 50), drain_s=10)
    assert tally.of("train").accepted.count == 50
    assert tally.connections < 10


async def test_a_kept_connection_that_closes_is_replaced() -> None:
    answered = count()

    async def respond(_: dict[str, Any]) -> Written:
        # The second request on a connection is met by its end.
        return Written(0) if next(answered) == 1 else OK

    async with serving(respond) as url, OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0.1, 3), drain_s=10)
    assert tally.of("train").accepted.count == 3
    assert not tally.of("train").broken


async def test_nobody_at_the_address_is_counted() -> None:
    async def respond(_: dict[str, Any]) -> Written:
        return OK

    async with serving(respond) as url:
        pass
    async with OpenLoop([url], bodies()) as loop:
        tally = await loop.run(every(0, 3), drain_s=10)
    assert tally.of("train").broken.total() == 3


@pytest.mark.parametrize("priority", ["online", "train", "batch"])
def test_no_two_requests_are_alike(priority: Priority) -> None:
    one, other = bodies(), bodies()
    requests = {body.request(priority, number) for body in (one, other) for number in (0, 1, 8, 10**9 - 1)}
    assert len(requests) == 8
    assert len({len(one.request(priority, number)) for number in (0, 8, 10**9)}) == 1
    assert all(f'"priority":"{priority}"'.encode() in request for request in requests)
