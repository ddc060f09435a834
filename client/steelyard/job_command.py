"""What `steelyard jobs` does."""

import re
import sys
from pathlib import Path

from steelyard.arguments import Arguments
from steelyard.client import Client
from steelyard.display import visible
from steelyard.errors import InvalidCall, InvalidRequest, JobTooLarge, UnknownJob
from steelyard.job_calls import JobPage
from steelyard.job_files import Note, RowFile, RowStream, read_chunks
from steelyard.schema import BatchJob

_DONE, _SOME_UNSCORED = 0, 3
_WAIT_S = 20.0
_LINE = re.compile(r"line (\d+): (.*)", re.DOTALL)


def run_jobs(client: Client, given: Arguments) -> int:
    """The exit code. Raises SteelyardError."""
    match given.action:
        case "submit":
            return _show(_submit(client, given.file), given)
        case "status":
            return _show(client.job(given.job), given)
        case "cancel":
            return _show(client.cancel_job(given.job), given)
        case "results":
            return _fetch(client, given)


def summary(job: BatchJob) -> str:
    """One line for people."""
    parts = [f"{job.id}  {job.status}", f"{job.done:,} of {job.groups:,} groups"]
    if job.failed:
        parts.append(f"{job.failed:,} refused")
    if job.groups_per_s:
        parts.append(f"{job.groups_per_s:,.1f} a second")
    if job.eta_s is not None:
        hours, minutes = divmod(round(job.eta_s / 60), 60)
        parts.append(f"{hours} h {minutes:02} min left")
    return ", ".join(parts)


def _show(job: BatchJob, given: Arguments) -> int:
    _progress("")
    print(job.model_dump_json() if given.json else visible(summary(job)))
    return _DONE


def _submit(client: Client, name: str) -> BatchJob:
    """Goes on at the server's count when the file was begun before; the job's id stands beside the file."""
    note = None if name == "-" else Note(Path(name + ".job"))
    chunks = read_chunks(name, 0)
    begun = note.read().get("job") if note else None
    job = _known(client, begun) if isinstance(begun, str) else None
    if job is None:
        # A file that is not there must not leave a job behind.
        first = next(chunks, [])
        job = client.create_job(open=True)
        if note is not None:
            note.write(job=job.id)
        if first:
            job = _append(client, job, name, first)
    else:
        chunks = read_chunks(name, job.groups)
    if job.status != "open":
        print(f"{name} was submitted before; remove {name}.job to submit it again", file=sys.stderr)
        return job
    for chunk in chunks:
        job = _append(client, job, name, chunk)
        _progress(f"{job.groups:,} groups sent, {job.done:,} done")
    return client.append_groups(job.id, (), job.groups, close=True)


def _append(client: Client, job: BatchJob, name: str, chunk: list[tuple[int, bytes]]) -> BatchJob:
    """Raises InvalidCall that names the file's line where the server names the chunk's."""
    try:
        return client.append_groups(job.id, [line for _, line in chunk], job.groups)
    except (InvalidRequest, JobTooLarge) as error:
        if (named := _LINE.fullmatch(error.message)) is None:
            raise
        raise InvalidCall(f"{name}:{chunk[int(named[1]) - 1][0]}: {named[2]}") from None


def _known(client: Client, job: str) -> BatchJob | None:
    try:
        return client.job(job)
    except UnknownJob:
        return None


def _fetch(client: Client, given: Arguments) -> int:
    """Everything that is there, or with `--follow` everything that will be."""
    unscored = False
    with RowStream() if given.out is None else RowFile(given.out, given.job) as rows:
        while True:
            page = client.job_results(given.job, rows.cursor, wait_s=_WAIT_S if given.follow else 0)
            unscored |= _lacks_scores(page)
            rows.add(page)
            _progress(f"{page.cursor} rows")
            if page.done or not (page.lines or given.follow):
                _progress("")
                return _SOME_UNSCORED if unscored else _DONE


def _lacks_scores(page: JobPage) -> bool:
    return any(row.answer is None or len(row.answer.ranking) < len(row.answer.results) for row in page.rows)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{visible(text)}\x1b[K", end="", file=sys.stderr, flush=True)
