"""The packing policy: pure, with the clock as an argument."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from service.batching import Budget, Waiting, halves, pack
from service.job import Job, JobCandidate, JobPicture

BUDGET = Budget(tokens=100, tiles=10)


def waiting(
    name: str,
    tokens: tuple[int, ...] = (10,),
    *,
    rank: int = 1,
    deadline: float | None = None,
    submitted: float = 0.0,
    tiles: int = 0,
    deaths: int = 0,
    model: str = "prm",
    plain: bool = False,
) -> Waiting:
    pictures = (JobPicture(("sha256:0",), False, (1, 1), tiles, 0, tiles * 4),) if tiles else ()
    candidates = tuple(JobCandidate(bytes(4 * count), bytes(4)) for count in tokens)
    job = Job(name, model, rank, submitted, deadline, b"", candidates, pictures, plain, deaths)
    return Waiting.of(job, range(len(tokens)))


def names(entries: tuple[Waiting, ...]) -> list[str]:
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


JOBS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 150), min_size=1, max_size=5),
        st.integers(0, 2),
        st.none() | st.floats(0, 10),
        st.integers(0, 12),
        st.sampled_from(["prm", "orm"]),
        st.integers(0, 3),
    ),
    max_size=8,
)


@given(JOBS)
def test_repeated_packing_serves_every_candidate_exactly_once(jobs: list[tuple]) -> None:  # type: ignore[type-arg]
    line = tuple(
        waiting(str(i), tuple(t), rank=rank, deadline=deadline, tiles=tiles, model=model, deaths=deaths, submitted=i)
        for i, (t, rank, deadline, tiles, model, deaths) in enumerate(jobs)
    )
    everything = sorted((e.job.id, c) for e in line for c in e.candidates)
    served: list[tuple[str, int]] = []
    while line:
        packing = pack(line, BUDGET, 5.0)
        assert packing.batch or packing.expired
        count = sum(len(entry.candidates) for entry in packing.batch)
        assert sum(entry.tokens for entry in packing.batch) <= BUDGET.tokens or count == 1
        assert len({entry.job.model for entry in packing.batch}) <= 1
        served += [(e.job.id, c) for e in (*packing.batch, *packing.expired) for c in e.candidates]
        line = packing.waiting
    assert sorted(served) == everything


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
