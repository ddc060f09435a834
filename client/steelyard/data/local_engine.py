"""Scoring from this process: spans go to the journal in their order, as they are done."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

from steelyard.data.journal import Journal
from steelyard.data.pipeline import score_in_order
from steelyard.data.records import Record
from steelyard.data.spans import cut
from steelyard.data.task import Task


async def score(task: Task, journal: Journal, start: int, tell: Callable[[int], None]) -> None:
    """Everything from record `start` on; `tell` hears how many are done."""
    await _score(task, journal, task.source.records(start, task.columns.names), tell)


async def score_again(task: Task, journal: Journal, numbers: Sequence[int]) -> None:
    """Records, ascending, whose outcome may be another one this time."""
    records = task.source.records(numbers[0], task.columns.names)
    await _score(task, journal, _picked(records, numbers), lambda _: None)


async def _score(task: Task, journal: Journal, records: Iterable[Record], tell: Callable[[int], None]) -> None:
    async with task.asked.client() as client:
        async for scored in score_in_order(cut(records, task.reader()), client, task.scoring, journal):
            # Beside the loop, so that the calls of the spans behind it go on.
            await asyncio.to_thread(journal.add, scored)
            tell(scored.end)


def _picked(records: Iterator[Record], numbers: Sequence[int]) -> Iterator[Record]:
    """Stops at the last one."""
    waiting = iter(numbers)
    following = next(waiting, None)
    for record in records:
        if record.index == following:
            yield record
            following = next(waiting, None)
        if following is None:
            return
