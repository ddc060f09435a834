"""The packing policy: pure, with the clock as an argument."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching import Budget, Waiting, halves, pack
from service.job import Job, JobCandidate, JobPicture

BUDGET = Budget(tokens=100, tiles=10)


def waiting(
    name: str,
    tokens: tuple[int, ...] = (10,),
    *,
    prefix: str = "",
    rank: int = 1,
    deadline: float | None = None,
    submitted: float = 0.0,
    tiles: int = 0,
    picture: str | None = None,
    offset: int = 0,
    deaths: int = 0,
    model: str = "prm",
    plain: bool = False,
    longest_shared: int | None = None,
) -> Waiting:
    """Suffixes of so many tokens after a prefix of one token a letter; its picture is its own unless it is named."""
    pictures = (JobPicture((picture or name,), False, (tiles, 1), tiles, offset, tiles * 4),) if tiles else ()
    candidates = tuple(JobCandidate(bytes(4 * count), bytes(4)) for count in tokens)
    ids = prefix.encode("utf-32-le")
    job = Job(
        name,
        model,
        rank,
        submitted,
        deadline,
        ids,
        candidates,
        pictures,
        plain,
        deaths,
        longest_shared=longest_shared,
    )
    return Waiting.of(job, range(len(tokens)))


def names(entries: Iterable[Waiting]) -> list[str]:
    return [entry.job.id for entry in entries]


def test_nothing_waiting_packs_nothing() -> None:
    packing = pack([], BUDGET, 0.0)
    assert (packing.batch, packing.waiting, packing.expired) == ((), (), ())


def test_priority_goes_before_deadline_and_deadline_before_arrival() -> None:
    line = [
        waiting("late arrival", submitted=2.0),
        waiting("early arrival", submitted=1.0),
        waiting("deadline", submitted=3.0, deadline=50.0),
        waiting("online", rank=0, submitted=4.0),
        waiting("batch", rank=2, submitted=0.0, deadline=10.0),
    ]
    assert names(pack(line, BUDGET, 0.0).batch) == ["online", "deadline", "early arrival", "late arrival", "batch"]


def test_expired_jobs_leave_the_line_without_a_forward() -> None:
    packing = pack([waiting("late", deadline=5.0), waiting("fine", deadline=5.1)], BUDGET, 5.0)
    assert names(packing.expired) == ["late"]
    assert names(packing.batch) == ["fine"]


def test_a_batch_stops_at_its_tokens() -> None:
    packing = pack([waiting("a", (60,)), waiting("b", (50,)), waiting("c", (40,))], BUDGET, 0.0)
    assert names(packing.batch) == ["a", "c"]
    assert names(packing.waiting) == ["b"]


def test_a_batch_stops_at_its_tiles() -> None:
    packing = pack([waiting("a", tiles=7), waiting("b", tiles=7)], BUDGET, 0.0)
    assert names(packing.batch) == ["a"]


def test_a_group_over_the_budget_goes_in_parts_and_loses_no_candidate() -> None:
    packing = pack([waiting("big", (60, 60, 60))], BUDGET, 0.0)
    assert packing.batch[0].candidates == (0,)
    assert packing.waiting[0].candidates == (1, 2)


def test_a_candidate_over_the_budget_still_goes() -> None:
    assert pack([waiting("huge", (1000, 10))], BUDGET, 0.0).batch[0].candidates == (0,)


def test_a_job_that_killed_two_workers_goes_alone() -> None:
    line = [waiting("suspect", deaths=2), waiting("b", submitted=1.0)]
    assert names(pack(line, BUDGET, 0.0).batch) == ["suspect"]
    line = [waiting("a"), waiting("suspect", deaths=2, submitted=1.0), waiting("c", submitted=2.0)]
    assert names(pack(line, BUDGET, 0.0).batch) == ["a", "c"]


def test_a_batch_holds_one_model_and_the_oracle_path_goes_alone() -> None:
    line = [waiting("a"), waiting("other", model="orm"), waiting("oracle", plain=True)]
    packing = pack(line, BUDGET, 0.0)
    assert names(packing.batch) == ["a"]
    assert names(packing.waiting) == ["other", "oracle"]


def test_halves_hold_each_candidate_once() -> None:
    first, second = halves([waiting("a", (1, 2)), waiting("b", (3,))])
    assert [(e.job.id, e.candidates) for e in (*first, *second)] == [("a", (0,)), ("a", (1,)), ("b", (0,))]


def own_pictures(entry: Waiting, *tiles: int) -> Waiting:
    """Each candidate brings one picture of so many tiles; equal numbers are the same picture."""
    pictures = [JobPicture((f"sha256:{count}",), False, (count, 1), count, 0, 4 * count) for count in tiles]
    pairs = zip(entry.job.candidates, pictures, strict=True)
    candidates = tuple(dataclasses.replace(candidate, pictures=(own,)) for candidate, own in pairs)
    return Waiting.of(dataclasses.replace(entry.job, candidates=candidates), entry.candidates)


def test_a_picture_that_several_candidates_bring_counts_once() -> None:
    assert own_pictures(waiting("a", (1, 1, 1)), 3, 3, 4).tiles == 7


def test_a_group_whose_candidates_bring_too_many_tiles_is_split() -> None:
    entry = own_pictures(waiting("a", (1, 1, 1, 1)), 6, 6, 3, 2)
    first = pack([entry], Budget(tokens=100, tiles=9), 0.0)
    assert [part.candidates for part in (*first.batch, *first.waiting)] == [(0, 1, 2), (3,)]
    second = pack([entry], Budget(tokens=100, tiles=1), 0.0)
    assert [part.candidates for part in (*second.batch, *second.waiting)] == [(0, 1), (2, 3)]


A, B = "a" * 60, "b" * 60


def test_candidates_count_their_prefix_once_and_on_the_oracle_path_each() -> None:
    assert waiting("a", (10, 10, 20), prefix=A).tokens == 100
    assert waiting("a", (10, 10, 20), prefix=A, plain=True).tokens == 220


def test_a_prompt_too_long_to_share_counts_its_prefix_for_itself() -> None:
    group = waiting("a", (10, 40, 41, 50), prefix=A, longest_shared=100)
    assert (group.tokens, len(group.prefixes)) == (60 + 10 + 40 + 101 + 110, 1)
    alone = waiting("b", (41, 50), prefix=A, longest_shared=100)
    assert (alone.tokens, alone.prefixes) == (101 + 110, frozenset())
    packing = pack([group], Budget(tokens=240, tiles=10), 0.0)
    assert [entry.candidates for entry in (*packing.batch, *packing.waiting)] == [(0, 1, 2), (3,)]


def test_groups_with_the_same_prefix_count_it_once() -> None:
    line = [waiting("a", (20,), prefix=A), waiting("b", (20,), prefix=B), waiting("c", (20,), prefix=A)]
    packing = pack(line, BUDGET, 0.0)
    assert names(packing.batch) == ["a", "c"]
    assert names(packing.waiting) == ["b"]


@pytest.mark.parametrize(
    ("picture", "offset", "together"), [("cat", 5, True), ("dog", 5, False), ("cat", 6, False), ("dog", 60, True)]
)
def test_a_prefix_is_the_same_with_the_same_pictures_in_the_same_places(
    picture: str, offset: int, together: bool
) -> None:
    first = waiting("a", prefix=A, tiles=1, picture="cat", offset=60 if offset == 60 else 5)
    other = waiting("b", prefix=A, tiles=1, picture=picture, offset=offset)
    assert (len(pack([first, other], BUDGET, 0.0).batch) == 2) is together


def test_a_prefix_counts_once_for_each_picture_that_candidates_bring_to_it() -> None:
    entry = waiting("a", (10, 10, 10), prefix=A)
    assert own_pictures(entry, 3, 3, 3).tokens == 90
    assert own_pictures(entry, 3, 3, 4).tokens == 150
    pair = own_pictures(waiting("pair", (10, 10), prefix="a" * 40), 3, 4)
    assert names(pack([waiting("first"), pair], BUDGET, 0.0).batch) == ["first"]


def test_a_picture_of_several_groups_counts_its_tiles_once() -> None:
    line = [waiting("a", tiles=7, picture="cat"), waiting("b", tiles=7), waiting("c", tiles=7, picture="cat")]
    assert names(pack(line, BUDGET, 0.0).batch) == ["a", "c"]


def test_a_group_that_costs_no_tile_more_goes_beside_a_picture_over_the_budget() -> None:
    line = [waiting("a", tiles=50, picture="cat"), waiting("b", tiles=50, picture="cat"), waiting("c", tiles=1)]
    assert names(pack([*line, waiting("d")], BUDGET, 0.0).batch) == ["a", "b", "d"]


def test_whoever_is_taken_is_followed_by_those_with_its_prefix() -> None:
    prefixes = {"1": "x", "2": "y", "3": "x", "4": "", "5": "y", "6": "z", "7": ""}
    line = [waiting(name, prefix=prefix, submitted=int(name)) for name, prefix in prefixes.items()]
    assert names(pack(line, BUDGET, 10.0).batch) == ["1", "3", "2", "5", "4", "6", "7"]


def test_a_group_that_does_not_fit_brings_nobody_forward() -> None:
    line = [
        waiting("first", (20,)),
        waiting("big", (90,), prefix="x", submitted=1.0),
        waiting("next", (70,), submitted=2.0),
        waiting("small", (20,), prefix="x", submitted=3.0),
    ]
    assert names(pack(line, BUDGET, 10.0).batch) == ["first", "next"]


def test_a_shared_prefix_never_takes_the_place_of_a_more_urgent_rank() -> None:
    line = [
        waiting("first", (20,), prefix=A, rank=0),
        waiting("urgent", (20,), rank=0, submitted=1.0),
        waiting("relative", (20,), prefix=A, rank=1),
    ]
    assert names(pack(line, BUDGET, 10.0).batch) == ["first", "urgent"]


def test_a_group_is_split_where_its_suffixes_fill_the_budget() -> None:
    packing = pack([waiting("a", (15, 15, 15, 15), prefix=A)], BUDGET, 0.0)
    assert [part.candidates for part in (*packing.batch, *packing.waiting)] == [(0, 1), (2, 3)]
    packing = pack([waiting("a", (15, 15, 15), prefix=A, plain=True)], BUDGET, 0.0)
    assert [part.candidates for part in (*packing.batch, *packing.waiting)] == [(0,), (1, 2)]


def test_a_begun_group_is_first_in_its_rank_but_not_before_a_more_urgent_one() -> None:
    (begun,) = pack([waiting("begun", (60, 60))], BUDGET, 0.0).waiting
    nearer = waiting("nearer", deadline=50.0)
    assert names(pack([nearer, begun], BUDGET, 1.0).batch) == ["begun", "nearer"]
    online = waiting("online", rank=0, submitted=1.0)
    assert names(pack([nearer, begun, online], BUDGET, 1.0).batch) == ["online", "begun", "nearer"]


@pytest.mark.parametrize(
    ("now", "first"), [(29.0, "online"), (59.0, "online"), (60.0, "online"), (89.0, "online"), (90.0, "batch")]
)
def test_a_group_moves_up_a_rank_for_each_patience_even_past_online(now: float, first: str) -> None:
    line = [waiting("batch", rank=2), waiting("online", rank=0, submitted=now - 1, deadline=now + 1)]
    assert names(pack(line, BUDGET, now).batch)[0] == first


def test_a_clock_ahead_of_this_one_costs_no_rank() -> None:
    line = [waiting("ahead", submitted=5.0, deadline=50.0), waiting("here")]
    assert names(pack(line, BUDGET, 0.0).batch) == ["ahead", "here"]


def cost(batch: Iterable[Waiting]) -> tuple[int, int]:
    """Tokens and tiles of a forward, counted candidate by candidate."""
    tokens = 0
    prefixes: set[object] = set()
    tiles: dict[object, int] = {}
    for job, candidate in [(entry.job, candidate) for entry in batch for candidate in entry.candidates]:
        pictures = job.pictures_of(candidate)
        tiles |= {job.key(picture): picture.tiles for picture in pictures}
        within = tuple(p for p in pictures if p.offset < len(job.prefix) // 4)
        is_shared = job.shares(candidate) and (job.model, job.prefix, within) in prefixes
        tokens += job.tokens(candidate) - (len(job.prefix) // 4 if is_shared else 0)
        if job.shares(candidate):
            prefixes.add((job.model, job.prefix, within))
    return tokens, sum(tiles.values())


def places(entries: Iterable[Waiting]) -> Counter[tuple[str, int]]:
    return Counter((entry.job.id, candidate) for entry in entries for candidate in entry.candidates)


HASTY = Budget(tokens=100, tiles=10, patience_s=1.0)


@st.composite
def lines(draw: st.DrawFn, *, deadlines: st.SearchStrategy[float | None]) -> list[Waiting]:
    """Groups in the order of their arrival; quarters of seconds are exact."""
    line: list[Waiting] = []
    now = 0.0
    for index in range(draw(st.integers(0, 12))):
        now += draw(st.integers(0, 3)) / 4
        entry = waiting(
            str(index),
            tuple(draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))),
            prefix=draw(st.sampled_from(["", "x" * 5, A, B, "c" * 120])),
            rank=draw(st.integers(0, 2)),
            deadline=draw(deadlines),
            submitted=now,
            tiles=draw(st.integers(0, 12)),
            picture=draw(st.sampled_from(["cat", "dog", None])),
            offset=draw(st.sampled_from([0, 70])),
            deaths=draw(st.sampled_from([0, 0, 0, 2])),
            model=draw(st.sampled_from(["prm", "prm", "orm"])),
            plain=draw(st.sampled_from([False, False, False, True])),
            longest_shared=draw(st.sampled_from([None, None, 40, 5])),
        )
        if not entry.job.pictures and draw(st.booleans()):
            entry = own_pictures(entry, *draw(st.tuples(*[st.integers(1, 3) for _ in entry.candidates])))
        line.append(entry)
    return line


def rank_after(entry: Waiting, now: float) -> int:
    return entry.job.rank - int((now - entry.job.submitted) // HASTY.patience_s)


def urgency(entry: Waiting, now: float) -> tuple[int, bool, float, float]:
    begun = len(entry.candidates) < len(entry.job.candidates)
    deadline = float("inf") if entry.job.deadline is None else entry.job.deadline
    return rank_after(entry, now), not begun, deadline, entry.job.submitted


def is_sociable(entry: Waiting, first: Waiting) -> bool:
    return entry.job.model == first.job.model and not any(e.job.plain or e.job.deaths >= 2 for e in (entry, first))


@given(lines(deadlines=st.none() | st.integers(5, 20).map(float)), st.sampled_from([9.0, 9.5, 10.0]))
def test_repeated_packing_loses_nothing_and_keeps_to_budget_and_order(line: list[Waiting], now: float) -> None:
    left = tuple(line)
    while left:
        packing = pack(left, HASTY, now)
        batch = packing.batch
        assert batch or packing.expired
        assert places(left) == places((*batch, *packing.waiting, *packing.expired))
        assert all(entry.job.deadline is not None and entry.job.deadline <= now for entry in packing.expired)
        line_now = [entry for entry in left if entry not in packing.expired]
        left = packing.waiting
        if not batch:
            continue
        assert batch[0].job == min(line_now, key=lambda entry: urgency(entry, now)).job
        tokens, tiles = cost(batch)
        assert tokens <= HASTY.tokens or sum(places(batch).values()) == 1
        first = Waiting.of(batch[0].job, batch[0].candidates[:1])
        assert tiles <= max(HASTY.tiles, first.tiles)
        assert all(is_sociable(entry, batch[0]) for entry in batch[1:])
        for entry in left:
            # Who was left behind would not have fitted beside its own rank and those before it.
            before = [e for e in batch if rank_after(e, now) <= rank_after(entry, now)]
            tokens, tiles = cost([*before, entry])
            assert tokens > HASTY.tokens or tiles > HASTY.tiles or not is_sociable(entry, batch[0])
        now += 1.0


def serve(arrivals: Sequence[Waiting], budget: Budget) -> Iterator[tuple[float, tuple[Waiting, ...]]]:
    """When each forward begins and who is in it, until all are served; a forward takes a second."""
    coming, line, now = list(arrivals), list[Waiting](), 0.0
    while coming or line:
        now = now if line else max(now, coming[0].job.submitted)
        while coming and coming[0].job.submitted <= now:
            line.append(coming.pop(0))
        packing = pack(line, budget, now)
        assert not packing.expired
        yield now, packing.batch
        line = list(packing.waiting)
        now += 1.0


@given(lines(deadlines=st.none() | st.integers(1000, 1100).map(float)))
def test_no_group_waits_for_more_than_came_within_its_patience(line: list[Waiting]) -> None:
    """However much comes later: it is served within the forwards that what came until then takes one by one."""
    forwards = list(serve(line, HASTY))
    lonely = {entry.job.id: len(list(serve([entry], HASTY))) for entry in line}
    for entry in line:
        last = max(start for start, batch in forwards if entry.job.id in names(batch))
        waited = sum(1 for start, _ in forwards if entry.job.submitted <= start <= last)
        until = entry.job.submitted + (entry.job.rank + 1) * HASTY.patience_s
        assert waited <= sum(lonely[other.job.id] for other in line if other.job.submitted < until)


@pytest.mark.parametrize(
    "stream",
    [
        [waiting("more urgent", (100,), rank=0, deadline=1000.0)],
        [waiting("nearer deadlines", (100,), rank=2, deadline=1000.0)],
        [waiting("more than can be served", (100,), rank=0), waiting("and more", (100,), rank=0)],
        [waiting("sharing", (20, 20), prefix=A, rank=0), waiting("a prefix", (20, 20), prefix=A, rank=0)],
        [waiting("small", (40,), rank=1), waiting("ones that fit", (40,), rank=1)],
        [waiting("another model", (100,), rank=0, model="orm")],
    ],
    ids=lambda stream: " ".join(names(stream)),
)
def test_an_endless_stream_starves_no_batch_group(stream: list[Waiting]) -> None:
    arrivals = [waiting("victim", (30, 30), prefix="v" * 30, rank=2, submitted=0.5)]
    arrivals += [
        Waiting.of(dataclasses.replace(e.job, id=f"{e.job.id} {second}", submitted=float(second)), e.candidates)
        for e in stream
        for second in range(200)
    ]
    forwards = serve(sorted(arrivals, key=lambda entry: entry.job.submitted), HASTY)
    served = next(start for start, batch in forwards if "victim" in names(batch))
    # What three patiences of a second bring, in forwards of a second.
    assert served <= 4 * len(stream) + 1
