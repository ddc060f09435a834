"""A job as its caller sees it: its state, and its rows page by page."""

import asyncio
import time

from service.jobs.store import JobState, JobStore
from steelyard.schema import BatchJob, JobCursor

_PAGE_BYTES = 16 * 2**20
# Rows asked for at a time: each may have thousands of scores.
_ROWS = 100
_LOOK_S = 0.2


def described(state: JobState, *, durable: bool) -> BatchJob:
    rate = state.groups_per_s
    return BatchJob(
        id=state.id,
        status=state.status,
        groups=state.groups,
        done=state.done,
        failed=state.failed,
        created=round(state.created, 3),
        expires_at=round(state.expires_at, 3),
        durable=durable,
        groups_per_s=None if rate is None else round(rate, 3),
        eta_s=round((state.groups - state.done) / rate, 1) if rate else None,
    )


async def read_page(store: JobStore, job: str, caller: str, start: int, limit: int, wait_s: float) -> bytes:
    """Rows from the `start`th on, then the cursor, as NDJSON; waits so long for the first. Raises UnknownJob."""
    give_up = time.monotonic() + wait_s
    while not (state := await store.find(job, caller)).ended and state.done <= start:
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            break
        await asyncio.sleep(min(_LOOK_S, left_s))
    rows: list[bytes] = []
    size = 0
    while len(rows) < limit and size < _PAGE_BYTES:
        more = await store.rows(job, start + len(rows), min(_ROWS, limit - len(rows)))
        if not more:
            break
        rows += more
        size += sum(map(len, more))
    end = start + len(rows)
    cursor = JobCursor(cursor=str(end), done=state.ended and end >= state.done)
    return b"\n".join([*rows, cursor.model_dump_json().encode(), b""])
