"""Which waiting work goes into the next forward: pure policy, the clock is an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

from service.job import Job, JobPicture, PictureKey

# A job that was in hand when two workers died is tried once more, with nobody else in the batch.
ALONE_AFTER_DEATHS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """What one forward may hold, and how long a group waits before it moves up a rank.

    The default patience is an online group's default deadline: ranks are strict for as long as that one waits.
    """

    tokens: int
    tiles: int
    patience_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job and which of its candidates are still to be scored; what `pack` asks of it is worked out once.

    `pictures` are those that the candidates have, each once, `keys` theirs. `prefixes` are hashes of all that makes
    a prefix's tokens equal to another group's: one for all candidates, unless they bring pictures of their own that
    differ within it; none where nothing is shared. A collision would do no more than miscount a batch.
    """

    job: Job
    candidates: tuple[int, ...]
    place: tuple[bool, float, float]
    pictures: tuple[JobPicture, ...]
    keys: tuple[PictureKey, ...]
    prefixes: frozenset[int]
    prefix_tokens: int
    suffix_tokens: int

    @classmethod
    def of(cls, job: Job, candidates: Iterable[int]) -> "Waiting":
        chosen = tuple(candidates)
        sharing = [c for c in chosen if job.shares(c)]
        prefix_tokens = len(job.prefix) // 4 if sharing else 0
        pictures = {job.key(picture): picture for own in _carried(job, chosen) for picture in own}
        return cls(
            job=job,
            candidates=chosen,
            place=_place(job, chosen),
            pictures=tuple(pictures.values()),
            keys=tuple(pictures),
            prefixes=frozenset(_identity(job, own) for own in _carried(job, sharing)) if prefix_tokens else frozenset(),
            prefix_tokens=prefix_tokens,
            suffix_tokens=sum(map(job.tokens, chosen)) - prefix_tokens * len(sharing),
        )

    @property
    def tokens(self) -> int:
        """Of this entry alone, without what a batch or a cache may already hold."""
        return self.suffix_tokens + self.prefix_tokens * len(self.prefixes)

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
    """Fill one batch: the most urgent rank first; within it begun groups, then the nearest deadline, then arrival.

    A group moves up a rank for each `patience_s` of its wait, past online's too: what arrives (rank + 1) patiences
    after it is never before it in line, so it goes as soon as the work that came until then is done.

    The first in line always goes, in part when it is over the budget alone; its rest, begun, is next in its rank.
    Behind it whole groups of its model are taken as they fit, rank by rank. A prefix and a picture are counted once
    for the whole batch, so within a rank those go first whose prefix the batch already holds, and whoever is taken
    is followed by those with its prefix. They may take the place of groups of their own rank for this one batch,
    never that of a more urgent rank. What is cached is not known here: the count is an upper bound.
    """
    expired: list[Waiting] = []
    ranks: dict[int, list[Waiting]] = {}
    for entry in waiting:
        if _is_late(entry.job, now):
            expired.append(entry)
        else:
            ranks.setdefault(_rank(entry.job, budget, now), []).append(entry)
    if not ranks:
        return Packing((), (), tuple(expired))
    lines = [sorted(ranks[rank], key=attrgetter("place")) for rank in sorted(ranks)]
    first, rest = _split(lines[0].pop(0), budget)
    load = _Load(budget)
    load.take(first)
    for line in lines:
        _fill(load, [entry for entry in line if _may_share(first.job, entry.job)])
    left = [entry for line in lines for entry in line if id(entry) not in load.taken]
    return Packing(tuple(load.batch), (rest, *left) if rest.candidates else tuple(left), tuple(expired))


def halves(batch: Sequence[Waiting]) -> tuple[tuple[Waiting, ...], tuple[Waiting, ...]]:
    """The batch cut in two by candidates, to find the one whose forward fails."""
    flat = [Waiting.of(entry.job, (candidate,)) for entry in batch for candidate in entry.candidates]
    middle = len(flat) // 2
    return tuple(flat[:middle]), tuple(flat[middle:])


@dataclass(slots=True)
class _Load:
    """A batch as it fills, with what its groups have in common counted once."""

    budget: Budget
    batch: list[Waiting] = field(default_factory=list)
    # By `id`: an entry is offered alone and with its family.
    taken: set[int] = field(default_factory=set)
    prefixes: set[int] = field(default_factory=set)
    keys: set[PictureKey] = field(default_factory=set)
    tokens: int = 0
    tiles: int = 0

    def take(self, entry: Waiting) -> bool:
        """Whether it now goes. The first always fits, and what costs no tile more is not refused for its tiles."""
        tokens = self.tokens + entry.suffix_tokens
        # Most of a long line ends here, at a batch that is full.
        if id(entry) in self.taken or (self.batch and tokens > self.budget.tokens):
            return False
        tokens += entry.prefix_tokens * len(entry.prefixes - self.prefixes)
        keyed = zip(entry.keys, entry.pictures, strict=True)
        tiles = self.tiles + sum(picture.tiles for key, picture in keyed if key not in self.keys)
        if self.batch and (tokens > self.budget.tokens or tiles > max(self.tiles, self.budget.tiles)):
            return False
        self.batch.append(entry)
        self.taken.add(id(entry))
        self.prefixes |= entry.prefixes
        self.keys.update(entry.keys)
        self.tokens, self.tiles = tokens, tiles
        return True


def _is_late(job: Job, now: float) -> bool:
    return job.deadline is not None and job.deadline <= now


def _rank(job: Job, budget: Budget, now: float) -> int:
    # Another machine's clock may be ahead of this one's.
    return job.rank - int(max(0.0, now - job.submitted) // budget.patience_s)


def _place(job: Job, chosen: Sequence[int]) -> tuple[bool, float, float]:
    """In the line of a rank: whether it is yet to be begun, its deadline, its arrival."""
    return len(chosen) == len(job.candidates), inf if job.deadline is None else job.deadline, job.submitted


def _fill(load: _Load, rank: Sequence[Waiting]) -> None:
    """Take what fits of one rank: those whose prefix is held, then the others in order, each with its family."""
    families: dict[frozenset[int], list[Waiting]] = {}
    for entry in rank:
        families.setdefault(entry.prefixes, []).append(entry)
    # Sharing nothing makes no family.
    families.pop(frozenset(), None)
    for entry in [entry for entry in rank if entry.prefixes and entry.prefixes <= load.prefixes]:
        load.take(entry)
    for entry in rank:
        if load.take(entry):
            for relative in families.get(entry.prefixes, ()):
                load.take(relative)


def _may_share(first: Job, other: Job) -> bool:
    alone = first.plain or other.plain or max(first.deaths, other.deaths) >= ALONE_AFTER_DEATHS
    return first.model == other.model and not alone


def _split(entry: Waiting, budget: Budget) -> tuple[Waiting, Waiting]:
    """As many candidates as the budget holds, at least one; and the rest."""
    load = _Load(budget)
    for count, candidate in enumerate(entry.candidates):
        if not load.take(Waiting.of(entry.job, (candidate,))):
            return Waiting.of(entry.job, entry.candidates[:count]), Waiting.of(entry.job, entry.candidates[count:])
    return entry, Waiting.of(entry.job, ())


def _carried(job: Job, chosen: Iterable[int]) -> Iterable[tuple[JobPicture, ...]]:
    """The pictures of each candidate, once for those with the same ones, which begin with the same tokens."""
    return dict.fromkeys([job.pictures] if job.pictures else (job.candidates[c].pictures for c in chosen))


def _identity(job: Job, pictures: Iterable[JobPicture]) -> int:
    """Of a prefix: equal ids are equal tokens where the same pictures stand in them."""
    tokens = len(job.prefix) // 4
    placed = tuple((job.key(picture), picture.offset) for picture in pictures if picture.offset < tokens)
    return hash((job.model, job.prefix, placed))
