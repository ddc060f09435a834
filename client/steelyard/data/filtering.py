"""A whole run: look at the data set, score what has no score yet, choose, write; and go on where a run was killed."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator

from steelyard.data import forms, local_engine
from steelyard.data.journal import Journal
from steelyard.data.outputs import Outputs
from steelyard.data.progress import shown
from steelyard.data.selection import choose, choose_pairs
from steelyard.data.sources import Rows, open_source
from steelyard.data.summary import Summary, summarise
from steelyard.data.task import Filtering, Task, prepare
from steelyard.data.writers import open_writer, write_whole
from steelyard.errors import InvalidCall


def run(asked: Filtering) -> Summary:
    """Raises SteelyardError for what stops it; what was scored until then is kept for `resume`."""
    outputs = Outputs.of(asked.output, asked.format)
    source = open_source(asked.input)
    outputs.check(source.files, resume=asked.resume, overwrite=asked.overwrite)
    writer = open_writer(outputs.format, outputs.path)
    task = prepare(asked, source, source.survey())
    settings = task.settings | task.choice
    if asked.resume and (finished := outputs.finished(settings)) is not None:
        return finished
    if asked.overwrite:
        outputs.forget()
    try:
        with Journal(outputs.journal) as journal:
            _score(task, journal)
            rows = _Counted(_chosen(task, journal))
            write_whole(writer, outputs.path, rows)
            summary = summarise(
                journal.database, settings, rows.count, asked.output, probabilities=task.has_probabilities
            )
            outputs.report(journal, summary)
            if summary.retryable == 0:
                journal.remove()
    except sqlite3.Error as error:
        raise InvalidCall(f"{outputs.journal}: {error}") from None
    return summary


def _score(task: Task, journal: Journal) -> None:
    start = journal.begin(task.settings)
    again = journal.to_retry()
    if start < task.survey.total:
        with shown(task.survey.total, start, "scored") as tell:
            if task.asked.engine == "ray":
                from steelyard.data import ray_engine

                ray_engine.score(task, journal, start, tell)
            else:
                asyncio.run(local_engine.score(task, journal, start, tell))
    if again:
        asyncio.run(local_engine.score_again(task, journal, again))


def _chosen(task: Task, journal: Journal) -> Iterator[Rows]:
    asked, columns = task.asked, task.columns
    if asked.form == "pairs":
        choose_pairs(journal.database, asked.margin, asked.selection.min_score)
        return forms.pairs(task.source, journal, columns)
    choose(journal.database, asked.selection, scored_alone=asked.form == "step-labels")
    if asked.form == "scores":
        return forms.scores(journal, columns, rejected_too=not asked.selection.leaves_out)
    if asked.form == "step-labels":
        return forms.step_labels(task.source, journal, columns, asked.label_threshold)
    return forms.records(task.source, journal, columns, asked.prefix)


class _Counted(Iterable[Rows]):
    """Rows, and how many there were."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Rows]:
        for some in self._rows:
            self.count += len(some) if isinstance(some, list) else some.num_rows
            yield some
