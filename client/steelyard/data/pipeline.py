"""Records in, outcomes out, in the records' order: several spans at a time, and a client's permits bound the calls."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from steelyard.client import AsyncClient
from steelyard.data.records import Outcome, Rejected
from steelyard.data.scorer import Scoring, score_group
from steelyard.data.spans import Span, groups
from steelyard.errors import SteelyardError

# Enough for 64 calls of some candidates each while the oldest span waits for its slowest call.
_SPANS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a candidate stands, and the keys of its prompt and itself."""

    record: int
    number: int
    place: str
    prompt: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """Records to before `end`, without their contents: an outcome for each key that earlier records did not have."""

    end: int
    places: list[Place]
    rejected: tuple[Rejected, ...]
    outcomes: dict[bytes, Outcome]


class Known(Protocol):
    """What has been scored before."""

    def known(self, keys: Iterable[bytes]) -> set[bytes]: ...


class Nothing:
    """Nothing has."""

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        return set()


async def score_in_order(
    spans: Iterator[Span], client: AsyncClient, scoring: Scoring, before: Known
) -> AsyncIterator[ScoredSpan]:
    """Raises what ends the run after everything that was scored before it."""
    waiting: deque[tuple[set[bytes], asyncio.Task[ScoredSpan]]] = deque()
    failure: SteelyardError | None = None
    try:
        while True:
            while failure is None and len(waiting) < _SPANS:
                try:
                    span = await asyncio.to_thread(next, spans, None)
                except SteelyardError as error:
                    failure = error
                    break
                if span is None:
                    break
                keys = {item.key for item in span.items}
                found = before.known(keys).union(*(keys & under_way for under_way, _ in waiting))
                waiting.append((keys, asyncio.create_task(_score(span, client, scoring, found))))
            if not waiting:
                break
            yield await waiting[0][1]
            waiting.popleft()
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
    if failure is not None:
        raise failure


async def _score(span: Span, client: AsyncClient, scoring: Scoring, known: set[bytes]) -> ScoredSpan:
    asked = list(groups(span, known))
    tasks = [asyncio.create_task(score_group(client, scoring, group)) for group in asked]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    keys = [item.key for group in asked for item in group.items]
    outcomes = [outcome for outcomes in found for outcome in outcomes]
    places = [Place(item.record, item.number, item.place, item.prompt.key, item.key) for item in span.items]
    return ScoredSpan(span.end, places, span.rejected, dict(zip(keys, outcomes, strict=True)))
