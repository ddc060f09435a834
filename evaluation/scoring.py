"""All groups of a run, many in flight, each kept as soon as it is scored."""

import asyncio
import sys
from collections.abc import Mapping, Sequence

from evaluation.errors import EvaluationError, Interrupted
from evaluation.groups import Group
from evaluation.progress import Progress
from evaluation.records import Record, Records, Result
from evaluation.scorer import Scorer
from steelyard.errors import SteelyardError


async def score_all(
    scorer: Scorer, groups: Sequence[Group], inputs: Mapping[str, str], records: Records, in_flight: int
) -> dict[str, Record]:
    """Group id → its record, scored now or kept from before; those that may fare better now are tried again.

    Raises Interrupted when the server is gone: what is scored by then is kept.
    """
    provenance = scorer.served.provenance
    found = {group.id: records.find(group.id, inputs[group.id], provenance) for group in groups}
    kept = {id: record for id, record in found.items() if record is not None and record.settled}
    missing = [group for group in groups if group.id not in kept]
    progress = Progress(scorer.served.name, len(groups), len(kept), sys.stderr)
    scored: dict[str, Record] = {}
    waiting = iter(missing)

    async def work() -> None:
        # One iterator for all workers: each takes the next group when it is done with one.
        for group in waiting:
            record = _record(group, inputs[group.id], scorer, await scorer.score(group))
            records.append(record)
            scored[group.id] = record
            progress.advance(failed=any(result.status != "ok" for result in record.results))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(in_flight, len(missing))):
                workers.create_task(work())
    except* (SteelyardError, EvaluationError) as errors:
        first = errors.exceptions[0]
        raise Interrupted(
            f"{first}; {progress.done} of {len(groups)} groups are kept in {records.path}: "
            "the same command goes on from there"
        ) from None
    finally:
        progress.close()
    return {group.id: scored.get(group.id) or kept[group.id] for group in groups}


def _record(group: Group, input: str, scorer: Scorer, results: tuple[Result, ...]) -> Record:
    provenance = scorer.served.provenance
    return Record(
        id=group.id,
        input=input,
        model=scorer.served.name,
        weights=provenance.weights,
        tokenizer=provenance.tokenizer,
        dtype=provenance.dtype,
        results=results,
    )
