"""The pool of workers over an evaluation that hangs, dies and takes memory when it is told to."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.verify.batch import Batch
from service.verify.frames import Item
from service.verify.pool import Pool
from service.verify.workers import Workers
from tests.service.verify import scripted

MEMORY = 256 * 2**20


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    found = Pool(Workers(scripted.__name__, MEMORY, "warning"), 1)
    yield found
    await found.close()


def batch_of(
    responses: Sequence[str], limit_s: float = 0.3, deadline_s: float = 60.0, *, needs_preload: bool = False
) -> Batch:
    items = [Item(place, None, response, "truth", None) for place, response in enumerate(responses)]
    return Batch(b"{}", items, limit_s, time.monotonic() + deadline_s, needs_preload=needs_preload)


def lines(batch: Batch) -> list[dict[str, Any]]:
    return [json.loads(result.line) for result in batch.results if result is not None]


async def evaluated(pool: Pool, responses: Sequence[str], **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    batch = batch_of(responses, **options)
    await pool.run(batch)
    assert [line["index"] for line in lines(batch)] == [*range(len(responses))]
    return lines(batch)


def statuses(found: Sequence[dict[str, Any]]) -> list[str]:
    for line in found:
        assert (line["reward"] is None) == (line["status"] != "ok")
    return [line["status"] for line in found]


async def test_every_item_gets_what_the_evaluation_says(pool: Pool) -> None:
    found = await evaluated(pool, ["a", "refuse", "raise x", "nan", "abc"])
    assert statuses(found) == ["ok", "refused", "failed", "failed", "ok"]
    assert [line["reward"] for line in found] == [1.0, None, None, None, 3.0]
    assert found[4]["parts"] == {"length": 3.0}
    assert found[1]["detail"] == "the solution is unusable"
    assert "KeyError" in found[2]["detail"]
    assert "finite" in found[3]["detail"]
    assert [line["retryable"] for line in found] == [None, False, False, False, None]


async def test_an_item_past_its_time_is_killed_and_the_rest_goes_on(pool: Pool) -> None:
    found = await evaluated(pool, ["a", "hang", "bb", "hang", "sleep 30", "ccc"], limit_s=0.2)
    assert statuses(found) == ["ok", "timed_out", "ok", "timed_out", "timed_out", "ok"]
    assert [line["reward"] for line in found] == [1.0, None, 2.0, None, None, 3.0]
    assert found[1]["detail"] == "it took longer than 200 ms"


async def test_an_item_that_takes_too_much_memory_fails_alone(pool: Pool) -> None:
    found = await evaluated(pool, ["a", "memory", "bb"])
    assert statuses(found) == ["ok", "failed", "ok"]
    assert "memory" in found[1]["detail"]


async def test_an_item_that_kills_its_worker_is_tried_once_more_alone_and_then_fails(
    pool: Pool, tmp_path: Path
) -> None:
    found = await evaluated(pool, ["a", "die", f"die-once {tmp_path / 'mark'}", "bb"])
    assert statuses(found) == ["ok", "failed", "ok", "ok"]
    assert "died" in found[1]["detail"]


async def test_a_worker_that_somebody_else_kills_costs_nobody_a_result(pool: Pool) -> None:
    running = asyncio.create_task(evaluated(pool, ["a", "sleep 0.5", "b"], limit_s=10.0))
    pid = int((await evaluated(pool, ["pid"]))[0]["reward"])
    while not sleeps(pid):
        await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert statuses(await running) == ["ok", "ok", "ok"]


async def test_a_worker_that_is_stopped_is_replaced(pool: Pool) -> None:
    pid = int((await evaluated(pool, ["pid"]))[0]["reward"])
    running = asyncio.create_task(evaluated(pool, ["sleep 0.1", "b"], limit_s=0.3))
    while not sleeps(pid):
        await asyncio.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    assert statuses(await running) == ["timed_out", "ok"]


async def test_the_death_of_the_process_that_workers_come_from_is_survived(pool: Pool) -> None:
    worker = psutil.Process(int((await evaluated(pool, ["pid"]))[0]["reward"]))
    nursery = worker.parent()
    assert nursery is not None
    nursery.kill()
    nursery.wait()
    assert statuses(await evaluated(pool, ["a", "hang", "b"], limit_s=0.2)) == ["ok", "timed_out", "ok"]


async def test_batches_take_turns_so_that_a_slow_one_holds_up_nobody(pool: Pool) -> None:
    slow = batch_of(["sleep 0.02"] * 40)
    running = asyncio.create_task(pool.run(slow))
    assert statuses(await evaluated(pool, ["a"])) == ["ok"]
    assert not slow.finished.done()
    await running
    assert statuses(lines(slow)) == ["ok"] * 40


async def test_a_batch_that_nobody_waits_for_is_dropped_with_the_item_in_hand(pool: Pool) -> None:
    slow = batch_of(["sleep 0.2"] * 1000)
    running = asyncio.create_task(pool.run(slow))
    pid = int((await evaluated(pool, ["pid"]))[0]["reward"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    again = await evaluated(pool, ["pid"])
    assert again[0]["reward"] == pid
    assert sum(result is not None for result in slow.results) < 10


async def test_what_is_not_begun_by_the_deadline_expires_and_may_be_tried_again(pool: Pool) -> None:
    found = await evaluated(pool, ["sleep 0.2"] * 20, deadline_s=0.5, limit_s=5.0)
    assert set(statuses(found)) == {"ok", "expired"}
    assert all(line["retryable"] for line in found if line["status"] == "expired")


async def test_what_is_slow_to_import_is_there_when_it_is_needed_and_not_before(pool: Pool) -> None:
    assert (await evaluated(pool, ["preloaded"]))[0]["reward"] == 0
    assert (await evaluated(pool, ["preloaded"], needs_preload=True))[0]["reward"] == 1
    assert (await evaluated(pool, ["hang", "preloaded"], needs_preload=True, limit_s=0.2))[1]["reward"] == 1


async def test_large_batches_go_to_the_worker_in_parts(pool: Pool) -> None:
    long = "x" * 2**20
    found = await evaluated(pool, [long] * 16, limit_s=5.0)
    assert [line["reward"] for line in found] == [float(2**20)] * 16
    assert statuses(await evaluated(pool, [""] * 5000)) == ["ok"] * 5000


async def test_where_no_worker_can_be_started_every_item_says_so() -> None:
    pool = Pool(Workers("tests.service.verify.no_such_module", MEMORY, "critical"), 1)
    found = await evaluated(pool, ["a", "b"])
    await pool.close()
    assert statuses(found) == ["failed", "failed"]
    assert all(line["retryable"] for line in found)


async def test_closing_ends_every_process_and_answers_whoever_waits() -> None:
    pool = Pool(Workers(scripted.__name__, MEMORY, "warning"), 2)
    batch = batch_of(["sleep 5"] * 4, limit_s=10.0)
    running = asyncio.create_task(pool.run(batch))
    worker = psutil.Process(int((await evaluated(pool, ["pid"], limit_s=10.0))[0]["reward"]))
    nursery = worker.parent()
    assert nursery is not None
    await pool.close()
    psutil.wait_procs([worker], timeout=10)
    assert not nursery.is_running()
    await running
    assert statuses(lines(batch))[-1] == "failed"
    assert len(lines(batch)) == 4


def sleeps(pid: int) -> bool:
    """Whether the worker has an item in hand that sleeps; between items it waits for its pipe."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text(encoding="utf-8")
