"""Which waiting work goes into the next forward: pure policy, the clock is an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.job import Job

# A job that was in hand when two workers died is tried once more, with nobody else in the batch.
ALONE_AFTER_DEATHS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold."""

    tokens: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job and which of its candidates are still to be scored."""

    job: Job
    candidates: tuple[int, ...]
    tokens: int

    @classmethod
    def of(cls, job: Job, candidates: Iterable[int]) -> "Waiting":
        chosen = tuple(candidates)
        return cls(job, chosen, sum(job.tokens(candidate) for candidate in chosen))

    @property
    def tiles(self) -> int:
        return sum(picture.tiles for picture in self.job.pictures)


@dataclass(frozen=True, slots=True)
class Packing:
    """The next batch, what is left waiting, and the jobs whose deadline has passed."""

    batch: tuple[Waiting, ...]
    waiting: tuple[Waiting, ...]
    expired: tuple[Waiting, ...]


def pack(waiting: Iterable[Waiting], budget: Budget, now: float) -> Packing:
    """Fill one batch: highest priority first, then the nearest deadline, then the order of arrival.

    The first in line always goes, in part when it is over the budget alone; behind it whole groups are taken as
    they fit. Tokens are counted as the decoder will run them. A model is served at a time: the first in line's.
    """
    expired: list[Waiting] = []
    line: list[Waiting] = []
    for entry in waiting:
        (expired if _is_late(entry.job, now) else line).append(entry)
    if not line:
        return Packing((), (), tuple(expired))
    line.sort(key=_urgency)
    first, rest = _split(line[0], budget)
    batch, left = [first], [rest] if rest.candidates else []
    tokens, tiles = first.tokens, first.tiles
    for entry in line[1:]:
        fits = tokens + entry.tokens <= budget.tokens and tiles + entry.tiles <= budget.tiles
        if fits and _may_share(first.job, entry.job):
            batch.append(entry)
            tokens, tiles = tokens + entry.tokens, tiles + entry.tiles
        else:
            left.append(entry)
    return Packing(tuple(batch), tuple(left), tuple(expired))


def halves(batch: Sequence[Waiting]) -> tuple[tuple[Waiting, ...], tuple[Waiting, ...]]:
    """The batch cut in two by candidates, to find the one whose forward fails."""
    flat = [Waiting.of(entry.job, (candidate,)) for entry in batch for candidate in entry.candidates]
    middle = len(flat) // 2
    return tuple(flat[:middle]), tuple(flat[middle:])


def _is_late(job: Job, now: float) -> bool:
    return job.deadline is not None and job.deadline <= now


def _urgency(entry: Waiting) -> tuple[int, float, float]:
    deadline = float("inf") if entry.job.deadline is None else entry.job.deadline
    return entry.job.rank, deadline, entry.job.submitted


def _may_share(first: Job, other: Job) -> bool:
    alone = first.plain or other.plain or max(first.deaths, other.deaths) >= ALONE_AFTER_DEATHS
    return first.model == other.model and not alone


def _split(entry: Waiting, budget: Budget) -> tuple[Waiting, Waiting]:
    """As many candidates as the budget holds, at least one; and the rest."""
    total, count = 0, 0
    for candidate in entry.candidates:
        total += entry.job.tokens(candidate)
        if count and total > budget.tokens:
            break
        count += 1
    job, candidates = entry.job, entry.candidates
    return Waiting.of(job, candidates[:count]), Waiting.of(job, candidates[count:])
