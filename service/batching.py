"""Which waiting work goes into the next forward: pure policy, the clock is an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from service.job import Job, JobPicture, PictureKey

# A job that was in hand when two workers died is tried once more, with nobody else in the batch.
ALONE_AFTER_DEATHS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold."""

    tokens: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job and which of its candidates are still to be scored; `pictures` are those that they have, each once."""

    job: Job
    candidates: tuple[int, ...]
    tokens: int
    pictures: tuple[JobPicture, ...]

    @classmethod
    def of(cls, job: Job, candidates: Iterable[int]) -> "Waiting":
        chosen = tuple(candidates)
        pictures = {job.key(picture): picture for picture in _pictures(job, chosen)}
        tokens = sum(job.tokens(candidate) for candidate in chosen)
        return cls(job, chosen, tokens, tuple(pictures.values()))

    @property
    def tiles(self) -> int:
        return sum(picture.tiles for picture in self.pictures)


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
    job, candidates = entry.job, entry.candidates
    tokens, count = 0, 0
    tiles: dict[PictureKey, int] = {}
    for candidate in candidates:
        tokens += job.tokens(candidate)
        known = len(tiles)
        tiles |= {job.key(picture): picture.tiles for picture in job.candidates[candidate].pictures}
        # What costs no tile more is never left behind for its tiles.
        too_many_tiles = len(tiles) > known and sum(tiles.values()) > budget.tiles
        if count and (tokens > budget.tokens or too_many_tiles):
            break
        count += 1
    return Waiting.of(job, candidates[:count]), Waiting.of(job, candidates[count:])


def _pictures(job: Job, candidates: Iterable[int]) -> Iterable[JobPicture]:
    return job.pictures or chain.from_iterable(job.candidates[candidate].pictures for candidate in candidates)
