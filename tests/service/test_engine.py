"""The engine's loop: every candidate gets its own outcome, whatever happens to the others."""

import dataclasses
import time
import weakref
from collections.abc import Generator, Sequence

import numpy as np
import pytest

from service.batching import Waiting
from service.engine import DeviceFault, Features, Logits
from service.job import Job, JobPicture
from tests.service.scripted import OTHER, PICTURE, Halver, Halves, Script, arrive, job, run


def test_each_candidate_gets_its_own_logits() -> None:
    script = run(Script(arrive(job("a", 2, 4), job("b", 6))), Halver())
    assert {c: o.values(2)[0, 0] for c, o in script.outcomes("a").items()} == {0: 1.0, 1: 2.0}
    assert script.outcomes("b")[0].values(2).tolist() == [[3.0, 0.0]]
    assert script.begun == [("a", "b")]


def test_a_job_that_is_handed_over_again_is_scored_only_where_it_has_no_outcome() -> None:
    scorer = Halver()
    script = run(Script(arrive(dataclasses.replace(job("a", 2, 4, 6), done=(0, 2)))), scorer)
    assert list(script.outcomes("a")) == [1]
    assert scorer.batches == [1]


def test_a_forward_that_raises_fails_the_guilty_candidate_alone() -> None:
    scorer = Halver(13)
    script = run(Script(arrive(job("a", 1, 13, 3), job("b", 4, 5))), scorer)
    assert {c: o.status for c, o in script.outcomes("a").items()} == {0: "ok", 1: "failed", 2: "ok"}
    assert {o.status for o in script.outcomes("b").values()} == {"ok"}
    failed = script.outcomes("a")[1]
    assert failed.logits == b""
    assert failed.retryable
    assert "RuntimeError" in (failed.detail or "")


def test_a_device_fault_is_nobodys_fault_and_ends_the_engine() -> None:
    class Broken(Halver):
        def score(self, firsts: Sequence[int]) -> list[Logits]:
            raise DeviceFault("illegal memory access")

    script = Script(arrive(job("a", 1, 2)))
    with pytest.raises(DeviceFault):
        run(script, Broken())
    assert script.delivered == []


def test_a_score_that_is_not_finite_is_a_failure_and_never_a_number() -> None:
    outcomes = run(Script(arrive(job("a", 99, 2))), Halver()).outcomes("a")
    assert (outcomes[0].status, outcomes[0].logits) == ("failed", b"")
    assert outcomes[1].status == "ok"


def test_a_number_that_is_not_finite_fails_nobody_that_it_spread_to() -> None:
    class Spreading(Halver):
        def score(self, firsts: Sequence[int]) -> list[Logits]:
            found = super().score(firsts)
            return [np.full_like(logits, np.nan) for logits in found] if 99 in firsts else found

    script = run(Script(arrive(job("a", 2, 99, 4), job("b", 6))), Spreading())
    assert {c: o.status for c, o in script.outcomes("a").items()} == {0: "ok", 1: "failed", 2: "ok"}
    assert script.outcomes("b")[0].values(2).tolist() == [[3.0, 0.0]]


def test_expired_jobs_are_answered_not_run() -> None:
    scorer = Halver()
    script = run(Script(arrive(job("late", 1, 2, deadline=time.monotonic() - 1))), scorer)
    assert [o.status for o in script.outcomes("late").values()] == ["expired", "expired"]
    assert scorer.batches == []


def test_a_withdrawn_job_costs_no_forward() -> None:
    scorer = Halver()
    script = run(Script(arrive(job("gone", 1), job("stays", 2), withdrawn=frozenset({"gone"}))), scorer)
    assert script.outcomes("gone") == {}
    assert scorer.batches == [1]


def test_a_withdrawal_reaches_a_job_that_waits_behind_a_batch() -> None:
    scorer = Halver()
    first, second = arrive(job("a", 1), job("b", 2)), arrive(withdrawn=frozenset({"b"}))
    script = run(Script(first, second), scorer, tokens=10)
    assert script.begun == [("a",)]


def test_a_picture_is_encoded_once_for_all_the_batches_of_its_group() -> None:
    scorer = Halver()
    run(Script(arrive(job("a", 1, 2, 3, pictures=(PICTURE,)), job("b", 4, pictures=(PICTURE,)))), scorer, tokens=10)
    assert scorer.encoded == [*PICTURE.digests]
    assert scorer.batches == [1, 1, 1, 1]


@pytest.mark.parametrize("blobs", [{}, {PICTURE.digests[0]: b"broken"}])
def test_a_picture_that_cannot_be_had_fails_its_own_group_only(blobs: dict[str, bytes]) -> None:
    script = Script(arrive(job("seeing", 1, 2, pictures=(PICTURE,)), job("blind", 4)), blobs=blobs)
    run(script, Halver())
    assert {o.status for o in script.outcomes("seeing").values()} == {"failed"}
    assert script.outcomes("blind")[0].status == "ok"


def test_the_tiles_of_a_group_are_counted_where_they_were_encoded() -> None:
    script = run(Script(arrive(job("a", 1, 2, pictures=(PICTURE,)))), Halver(), tokens=10)
    assert [delivery.tiles for delivery in script.delivered] == [1, 0]


def with_own_pictures(made: Job, *pictures: tuple[JobPicture, ...]) -> Job:
    pairs = zip(made.candidates, pictures, strict=True)
    return dataclasses.replace(made, candidates=tuple(dataclasses.replace(c, pictures=own) for c, own in pairs))


def test_a_picture_that_cannot_be_had_fails_those_who_bring_it_and_no_others() -> None:
    made = with_own_pictures(job("talks", 1, 2, 3, 4), (PICTURE,), (OTHER,), (), (OTHER, PICTURE))
    scorer = Halver()
    script = run(Script(arrive(made, job("blind", 5)), blobs={PICTURE.digests[0]: b"pixels"}), scorer)
    assert {c: o.status for c, o in script.outcomes("talks").items()} == {0: "ok", 1: "failed", 2: "ok", 3: "failed"}
    assert script.outcomes("blind")[0].status == "ok"
    assert scorer.encoded == [*PICTURE.digests]
    # One delivery a job, so that a death during the forward is still laid at its door.
    assert [delivery.job for delivery in script.delivered] == ["talks", "blind"]
    assert [delivery.computed_tokens for delivery in script.delivered] == [20, 10]


def test_a_broken_picture_is_tried_once_a_batch_however_many_bring_it() -> None:
    tried = []

    class Counting(Halver):
        def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
            tried.append(picture)
            return super().encode(picture, contents)

    made = with_own_pictures(job("talks", 1, 2, 3), (OTHER,), (OTHER,), (OTHER,))
    run(Script(arrive(made, job("seeing", 4, pictures=(OTHER,))), blobs={OTHER.digests[0]: b"broken"}), Counting())
    assert len(tried) == 1


def test_all_of_a_videos_frames_are_handed_over_together() -> None:
    video = dataclasses.replace(PICTURE, digests=("sha256:aa", "sha256:bb"), frames=True)
    scorer = Halver()
    blobs = {"sha256:aa": b"one", "sha256:bb": b"two"}
    run(Script(arrive(job("a", 1, pictures=(video,)), job("b", 2, pictures=(PICTURE,))), blobs=blobs), scorer)
    assert scorer.encoded == ["sha256:aa", "sha256:bb", "sha256:aa"]


def test_a_failed_forward_is_let_go_of_before_its_halves_are_tried() -> None:
    """Its rows' keys and values are most of the memory there is."""
    gone = []

    class Watching(Halver):
        def begin(self, batch: Sequence[Waiting]) -> Halves:
            gone.append(not attempts)
            attempt = super().begin(batch)
            attempts.add(attempt)
            return attempt

    attempts: weakref.WeakSet[Halves] = weakref.WeakSet()
    run(Script(arrive(job("a", 1, 2, 3, 13))), Watching(13))
    assert len(gone) == 5
    assert all(gone)


def test_every_attempt_is_closed_whatever_becomes_of_it() -> None:
    scorer = Halver(13, faults=[7], memory=35)
    blobs = {PICTURE.digests[0]: b"pixels", OTHER.digests[0]: b"broken"}
    shown = job("seeing", 1, 2, pictures=(PICTURE,)), job("blind", 3, 4, pictures=(OTHER,))
    script = Script(arrive(*shown, job("poisoned", 5, 13, 6)), arrive(job("faulty", 7)), blobs=blobs)
    with pytest.raises(DeviceFault):
        run(script, scorer)
    assert script.statuses("seeing") == ["ok", "ok"]
    assert script.statuses("blind") == ["failed", "failed"]
    assert script.statuses("poisoned") == ["ok", "failed", "ok"]
    assert scorer.open == []


def test_the_engine_tells_what_its_caches_did_after_every_batch() -> None:
    script = run(Script(arrive(job("a", 1)), arrive(job("b", 2))), Halver(), tokens=123, feature_bytes=456)
    assert script.counts.batch_tokens == 123
    assert script.counts.prefixes == {"prm": Halver.counts}
    assert script.counts.features.budget == 456


def test_a_long_line_is_served_without_comparing_everybody_with_everybody() -> None:
    groups, compared = 500, 0

    class Compared(bytes):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = bytes.__hash__

    alike = dataclasses.replace(job("same name", 1), submitted=0.0)
    line = [dataclasses.replace(alike, prefix=Compared(number.to_bytes(4))) for number in range(groups)]
    run(Script(arrive(*line)), Halver(), tokens=10**6)
    assert compared < 10 * groups
