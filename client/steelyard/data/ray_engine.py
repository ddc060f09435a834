"""Scoring on a cluster: the same spans by the same scorer, ranges of them as the tasks of a Ray Data pipeline.

The data set and its pictures must lie where every machine reads them under the same path. Ranges come back in order, so
the journal, and with it the output and what is resumed, are those of a local run.
"""

import asyncio
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from steelyard.data.extras import ray_data
from steelyard.data.journal import Journal
from steelyard.data.pipeline import Nothing, ScoredSpan, score_in_order
from steelyard.data.records import Record
from steelyard.data.sources import RANGE, START, Mark
from steelyard.data.spans import cut
from steelyard.data.task import Task
from steelyard.errors import SteelyardError


def score(task: Task, journal: Journal, start: int, tell: Callable[[int], None]) -> None:
    """Everything from record `start` on. Raises SteelyardError as a local run does."""
    ray = ray_data()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    ranges = list(_ranges(task, start))
    tasks = ray.data.from_items(ranges, override_num_blocks=len(ranges))
    size = {"batch_size": 1, "concurrency": task.asked.workers}
    rows = tasks.map_batches(_Worker, fn_constructor_args=(task,), batch_format="numpy", **size).iter_rows()
    for row in rows:
        # Made by `_Worker`, a few lines below.
        scored: ScoredSpan | SteelyardError = pickle.loads(row["scored"])  # noqa: S301
        if isinstance(scored, SteelyardError):
            raise scored
        journal.add(scored)
        tell(scored.end)


def _ranges(task: Task, start: int) -> Iterator[dict[str, int]]:
    """Records to score in one go, and the position in the file where the range begins."""
    total, marks = task.survey.total, task.survey.marks
    while start < total:
        end = min(total, (start // RANGE + 1) * RANGE)
        mark = marks[start // RANGE] if marks else START
        yield {"start": start, "end": end, "position": mark.position, "lines": mark.lines}
        start = end


class _Worker:
    """An actor of the pipeline: a client of its own."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._runner = asyncio.Runner()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """A row a span; an error stands after what was scored before it."""
        start, end, *mark = (int(batch[name][0]) for name in ("start", "end", "position", "lines"))
        found: list[ScoredSpan | SteelyardError] = []
        try:
            self._runner.run(self._score(start, end, Mark(*mark), found))
        except SteelyardError as error:
            found.append(error)
        return {"scored": [pickle.dumps(each) for each in found]}

    async def _score(self, start: int, end: int, mark: Mark, found: list[Any]) -> None:
        task = self._task
        records: Iterable[Record] = task.source.records(start, task.columns.names, mark)
        spans = cut(takewhile(lambda record: record.index < end, records), task.reader())
        async with task.asked.client() as client:
            async for scored in score_in_order(spans, client, task.scoring, Nothing()):
                found.append(scored)  # noqa: PERF401 - what was scored before an error stays
