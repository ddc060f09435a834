"""Clients that want their answer, against a server that lies, forgets, refuses and hangs up."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from loadtest.ledger import Ledger
from loadtest.pursuit import Pursuit
from loadtest.rows import rows_of
from loadtest.workload import Group
from steelyard import AsyncClient, Retry
from tests.loadtest.answers import answer
from tests.loadtest.http_server import Respond, Written, serving

GROUPS = [Group(f"case {number}?", (), (("A.", "B."), ("C.",))) for number in range(3)]
RIGHT = 1.5


def says(*logits: float | None) -> Written:
    return Written(body=answer(*logits).model_dump_json())


def by_asking(answers: Callable[[str, int], Written]) -> Respond:
    """`answers` is told the question and how often it was asked before."""
    asked: dict[str, int] = {}

    async def respond(request: dict[str, Any]) -> Written:
        question = request["question"]
        asked[question] = asked.get(question, -1) + 1
        return answers(question, asked[question])

    return respond


@asynccontextmanager
async def pursuing(*servers: Respond, deadline_s: float = 20.0) -> AsyncIterator[Pursuit]:
    right = rows_of(answer(RIGHT, RIGHT), 2)
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(server)) for server in servers]
        clients = {url: await stack.enter_async_context(AsyncClient(url, retry=Retry(max_retries=0))) for url in urls}
        yield Pursuit(clients, GROUPS, Ledger([right] * len(GROUPS)), deadline_s, random.Random(0))


async def pursue(pursuit: Pursuit) -> None:
    """As a run does: every group, then every answered id once more."""
    await asyncio.gather(*(pursuit.first(f"id-{group}", group) for group in range(len(GROUPS))))
    await asyncio.gather(*(pursuit.again(name) for name in pursuit.ledger.answered))


async def test_honest_servers_hold() -> None:
    async with pursuing(by_asking(lambda *_: says(RIGHT, RIGHT)), by_asking(lambda *_: says(RIGHT, RIGHT))) as pursuit:
        await pursue(pursuit)
    verdict = pursuit.ledger.verdict()
    assert verdict.holds
    assert verdict.answered == 3
    assert pursuit.attempts == {"answered": 6}


async def test_refusals_failures_and_hang_ups_are_asked_again_under_the_same_id() -> None:
    sequence = [
        Written(429, headers={"Retry-After": "0"}),
        Written(503),
        Written(0),
        Written(504),
        says(RIGHT, None),
        says(RIGHT, RIGHT),
    ]
    names: list[str] = []
    answers = by_asking(lambda _, asked: sequence[min(asked, len(sequence) - 1)])

    async def respond(request: dict[str, Any]) -> Written:
        names.append(request["id"])
        return await answers(request)

    async with pursuing(respond) as pursuit:
        await pursuit.first("id-0", 0)
    assert pursuit.ledger.verdict().answered == 1
    # A connection that closes as it is used may be tried anew below the client.
    assert set(names) == {"id-0"}
    assert pursuit.attempts["429 Overloaded"] == pursuit.attempts["504 DeadlineExceeded"] == 1
    assert pursuit.attempts["answered in part"] == pursuit.attempts["answered"] == 1


async def test_a_planted_loss_is_found() -> None:
    async def respond(request: dict[str, Any]) -> Written:
        return Written(0) if "case 1" in request["question"] else says(RIGHT, RIGHT)

    async with pursuing(respond, deadline_s=1.0) as pursuit:
        await pursue(pursuit)
    verdict = pursuit.ledger.verdict()
    assert verdict.broken == {"lost": ("id-1",), "duplicated": (), "wrong": (), "refused": (), "forgotten": ()}
    assert verdict.answered == 2


async def test_a_group_that_is_refused_to_the_end_is_found() -> None:
    async def respond(request: dict[str, Any]) -> Written:
        return Written(503) if "case 1" in request["question"] else says(RIGHT, RIGHT)

    async with pursuing(respond, deadline_s=1.0) as pursuit:
        await pursue(pursuit)
    assert pursuit.ledger.verdict().refused == ("id-1",)


async def test_a_planted_wrong_bit_is_found() -> None:
    wrong = by_asking(lambda question, _: says(RIGHT, RIGHT + 2**-52 if "case 2" in question else RIGHT))
    async with pursuing(wrong) as pursuit:
        await pursue(pursuit)
    assert pursuit.ledger.verdict().broken == {
        "lost": (),
        "duplicated": (),
        "wrong": ("id-2",),
        "refused": (),
        "forgotten": (),
    }


async def test_a_second_number_from_the_other_gateway_is_found() -> None:
    answers = by_asking(lambda question, asked: says(RIGHT, RIGHT + asked * ("case 0" in question)))
    async with pursuing(answers, answers) as pursuit:
        await pursue(pursuit)
    assert pursuit.ledger.verdict().duplicated == ("id-0",)


async def test_a_second_row_for_a_candidate_is_found() -> None:
    doubled = by_asking(lambda question, _: says(*[RIGHT] * (3 if "case 0" in question else 2)))
    async with pursuing(doubled) as pursuit:
        await pursue(pursuit)
    assert pursuit.ledger.verdict().duplicated == ("id-0",)


async def test_an_answer_that_is_not_given_again_is_found() -> None:
    once = by_asking(lambda question, asked: Written(503) if asked and "case 2" in question else says(RIGHT, RIGHT))
    async with pursuing(once, deadline_s=1.0) as pursuit:
        await pursue(pursuit)
    assert pursuit.ledger.verdict().forgotten == ("id-2",)


async def test_it_is_another_gateway_that_is_asked_again() -> None:
    asked: list[int] = []

    def counting(number: int) -> Respond:
        async def respond(_: dict[str, Any]) -> Written:
            asked.append(number)
            return says(RIGHT, RIGHT)

        return respond

    async with pursuing(counting(0), counting(1)) as pursuit:
        await pursuit.first("id-0", 0)
        await pursuit.again("id-0")
    assert sorted(asked) == [0, 1]
