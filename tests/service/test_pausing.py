"""A forward pauses for what is more urgent: who may pass, who may not, and what may happen meanwhile."""

import dataclasses
from collections.abc import Sequence

import pytest

from service.batching import ALONE_AFTER_DEATHS, Waiting
from service.engine import DeviceFault
from service.job import Job
from service.queue import Intake
from tests.service.scripted import OTHER, PICTURE, Halver, Halves, Script, arrive, job, run

ONLINE, TRAIN, BATCH = 0, 1, 2
NOTHING = arrive()


def test_an_online_job_that_arrives_during_a_batch_ranks_forward_is_delivered_first() -> None:
    scorer = Halver()
    script = run(Script(arrive(job("filter", 1, 2, rank=BATCH)), arrive(job("online", 3, rank=ONLINE))), scorer)
    assert script.order == ["online", "filter"]
    assert scorer.finished == [[3], [1, 2]]
    assert script.statuses("filter") + script.statuses("online") == ["ok"] * 3
    assert {c: o.values(2)[0, 0] for c, o in script.outcomes("filter").items()} == {0: 0.5, 1: 1.0}


def test_all_jobs_in_hand_are_named_as_begun() -> None:
    script = run(Script(arrive(job("filter", 1, rank=BATCH)), arrive(job("online", 2, rank=ONLINE))), Halver())
    assert script.begun == [("filter",), ("filter", "online")]


@pytest.mark.parametrize("rank", [ONLINE, TRAIN, BATCH])
def test_a_job_of_equal_or_lower_rank_waits_for_the_end(rank: int) -> None:
    script = run(Script(arrive(job("first", 1, rank=ONLINE)), arrive(job("second", 2, rank=rank))), Halver())
    assert script.order == ["first", "second"]
    assert script.begun == [("first",), ("second",)]


def test_the_most_urgent_of_a_batch_counts() -> None:
    mixed = [job("online", 1, rank=ONLINE), job("filter", 2, rank=BATCH)]
    script = run(Script(arrive(*mixed), arrive(job("train", 3, rank=TRAIN))), Halver())
    assert script.order == ["online", "filter", "train"]


def test_nobody_of_its_own_rank_waits_for_a_forward_larger_than_the_budget() -> None:
    script = run(Script(arrive(job("huge", 1, tokens=50)), arrive(job("small", 2))), Halver(), tokens=20)
    assert script.order == ["small", "huge"]


def test_those_who_wait_already_pass_a_forward_larger_than_the_budget_too() -> None:
    huge = job("huge", 1, tokens=50)
    later = dataclasses.replace(job("small", 2), submitted=huge.submitted + 1e-3)
    script = run(Script(arrive(huge, later)), Halver(), tokens=20)
    assert script.begun == [("huge",), ("huge", "small")]
    assert script.order == ["small", "huge"]


def test_groups_that_share_a_prefix_are_no_large_forward() -> None:
    """Each has the prefix, and the forward has it once."""

    class Sharing(Halver):
        def begin(self, batch: Sequence[Waiting]) -> Halves:
            attempt = super().begin(batch)
            attempt.computed = [20, *[10] * (len(attempt.computed) - 1)]
            return attempt

    prefix = job("prefix", 7, tokens=10).candidates[0].suffix
    groups = [dataclasses.replace(job(name, 1), prefix=prefix) for name in "abcd"]
    script = run(Script(arrive(*groups), arrive(job("later", 2))), Sharing(), tokens=50)
    assert script.order == ["a", "b", "c", "d", "later"]


def test_one_long_prompt_does_not_pass_another() -> None:
    """Nothing passes what interrupts, so an online job would sit behind it."""
    huge = [arrive(job(f"huge {i}", i, tokens=50, rank=BATCH - i)) for i in range(2)]
    script = run(Script(*huge, arrive(job("online", 3, rank=ONLINE))), Halver(), tokens=20)
    assert script.order == ["online", "huge 0", "huge 1"]


def test_the_rest_of_a_group_does_not_pass_its_first_part() -> None:
    script = run(Script(arrive(job("huge", 1, 2, tokens=50))), Halver(), tokens=20)
    assert script.begun == [("huge",), ("huge",)]
    assert [[o.candidate for o in delivery.outcomes] for delivery in script.delivered] == [[0], [1]]


def test_a_forward_that_interrupts_is_not_interrupted() -> None:
    arrivals = [job("filter", 1, rank=BATCH), job("train", 2, rank=TRAIN), job("online", 3, rank=ONLINE)]
    script = run(Script(*map(arrive, arrivals)), Halver())
    assert script.order == ["train", "online", "filter"]
    assert script.begun == [("filter",), ("filter", "train"), ("filter", "online")]


def test_what_interrupts_is_packed_within_the_budget_and_the_rest_follows_at_the_next_pause() -> None:
    arrivals = arrive(job("filter", 1, rank=BATCH)), arrive(job("online", 2, 3, rank=ONLINE))
    script = run(Script(*arrivals), Halver(), tokens=10)
    assert script.order == ["online", "online", "filter"]


def test_a_withdrawal_in_mid_forward_reaches_those_who_wait_and_not_those_in_hand() -> None:
    first = arrive(job("a", 1, rank=BATCH), job("b", 2, rank=BATCH))
    script = run(Script(first, arrive(withdrawn=frozenset({"a", "b"}))), Halver(), tokens=10)
    assert script.begun == [("a",)]
    assert script.statuses("a") == ["ok"]


def test_a_job_withdrawn_as_it_arrives_interrupts_nothing() -> None:
    gone = arrive(job("gone", 2, rank=ONLINE), withdrawn=frozenset({"gone"}))
    script = run(Script(arrive(job("filter", 1, rank=BATCH)), gone), Halver())
    assert script.begun == [("filter",)]


def test_a_stop_in_mid_forward_lets_it_end_and_begins_nothing_more() -> None:
    class Stopping(Script):
        def take(self, *, wait: bool) -> Intake | None:
            return super().take(wait=wait) if self._intakes else None

    first = arrive(job("a", 1, rank=BATCH), job("b", 2, rank=BATCH))
    script = run(Stopping(first), Halver(), tokens=10)
    assert script.begun == [("a",)]
    assert script.order == ["a"]


def test_an_error_of_what_interrupts_fails_it_alone() -> None:
    script = run(Script(arrive(job("filter", 1, 2, rank=BATCH)), arrive(job("online", 13, 3, rank=ONLINE))), Halver(13))
    assert script.statuses("online") == ["failed", "ok"]
    assert script.statuses("filter") == ["ok", "ok"]


def test_an_error_of_what_was_interrupted_fails_it_alone() -> None:
    script = run(Script(arrive(job("filter", 13, 2, rank=BATCH)), arrive(job("online", 3, 4, rank=ONLINE))), Halver(13))
    assert script.statuses("online") == ["ok", "ok"]
    assert script.statuses("filter") == ["failed", "ok"]


def test_a_device_fault_inside_an_interrupted_forward_ends_the_engine_and_is_nobodys_fault() -> None:
    script = Script(arrive(job("filter", 1, rank=BATCH)), arrive(job("online", 7, rank=ONLINE)))
    scorer = Halver(faults=[7])
    with pytest.raises(DeviceFault):
        run(script, scorer)
    assert script.delivered == []
    assert script.begun[-1] == ("filter", "online")
    assert scorer.open == []


def test_a_group_that_is_tried_alone_is_neither_interrupted_nor_interrupts() -> None:
    """A death would be laid at its company's door too."""

    def suspect(name: str, first: int, rank: int) -> Job:
        return dataclasses.replace(job(name, first, rank=rank), deaths=ALONE_AFTER_DEATHS)

    script = run(Script(arrive(suspect("suspect", 1, BATCH)), arrive(job("online", 2, rank=ONLINE))), Halver())
    assert script.begun == [("suspect",), ("online",)]
    script = run(Script(arrive(job("filter", 1, rank=BATCH)), arrive(suspect("suspect", 2, ONLINE))), Halver())
    assert script.begun == [("filter",), ("suspect",)]


def test_what_interrupts_brings_its_own_pictures() -> None:
    scorer = Halver()
    online = job("online", 2, pictures=(PICTURE,), rank=ONLINE)
    script = run(Script(arrive(job("filter", 1, pictures=(PICTURE,), rank=BATCH)), arrive(online)), scorer)
    assert scorer.encoded == [*PICTURE.digests]
    assert [(delivery.job, delivery.tiles) for delivery in script.delivered] == [("online", 0), ("filter", 1)]


def test_an_online_job_passes_while_a_picture_is_encoded() -> None:
    scorer = Halver(pauses=3)
    arrivals = [
        arrive(job("filter", 1, pictures=(PICTURE,), rank=BATCH)),
        NOTHING,
        arrive(job("online", 2, rank=ONLINE)),
    ]
    script = run(Script(*arrivals), scorer)
    assert script.order == ["online", "filter"]
    assert script.begun == [("filter",), ("filter", "online")]
    assert scorer.finished == [[2], [1]]
    assert scorer.encoded == [*PICTURE.digests]


def test_who_passes_a_picture_has_his_own_encoded_and_it_is_not_encoded_again() -> None:
    scorer = Halver(pauses=1)
    filtered = job("filter", 1, pictures=(PICTURE, OTHER), rank=BATCH)
    online = job("online", 2, pictures=(OTHER,), rank=ONLINE)
    blobs = {PICTURE.digests[0]: b"one", OTHER.digests[0]: b"two"}
    script = run(Script(arrive(filtered), arrive(online), blobs=blobs), scorer)
    assert scorer.encoded == [*OTHER.digests, *PICTURE.digests]
    assert [(delivery.job, delivery.tiles) for delivery in script.delivered] == [("online", 1), ("filter", 1)]


def test_who_wants_the_picture_that_is_being_encoded_passes_once_it_is() -> None:
    scorer = Halver(pauses=3)
    online = job("online", 2, pictures=(PICTURE,), rank=ONLINE)
    script = run(Script(arrive(job("filter", 1, pictures=(PICTURE,), rank=BATCH)), arrive(online)), scorer)
    assert script.order == ["online", "filter"]
    assert scorer.encoded == [*PICTURE.digests]


def test_what_passes_a_picture_that_turns_out_to_be_broken_has_its_scores() -> None:
    scorer = Halver(pauses=1)
    filtered = job("filter", 1, pictures=(PICTURE,), rank=BATCH)
    script = Script(arrive(filtered), arrive(job("online", 2, rank=ONLINE)), blobs={PICTURE.digests[0]: b"broken"})
    run(script, scorer)
    assert script.statuses("online") + script.statuses("filter") == ["ok", "failed"]


def test_those_expired_meanwhile_are_answered_at_a_pause() -> None:
    late = job("late", 2, rank=ONLINE, deadline=1.0)
    script = run(Script(arrive(job("filter", 1, rank=BATCH)), arrive(late)), Halver())
    assert script.order == ["late", "filter"]
    assert script.statuses("late") == ["expired"]


def test_whoever_arrives_at_any_pause_is_seen() -> None:
    arrivals = [arrive(job("filter", 1, rank=BATCH)), NOTHING, arrive(job("online", 2, rank=ONLINE))]
    assert run(Script(*arrivals), Halver()).order == ["online", "filter"]
