"""Out of memory: the budget halves, everything is answered all the same, and the budget grows back."""

from collections.abc import Generator, Sequence

import pytest

from service.batching import Budget
from service.engine import Engine, Features, OutOfMemory
from service.job import JobPicture
from service.memory_limits import Limits
from tests.service.scripted import PICTURE, Halver, Script, arrive, job, run

# Forwards that go well before a smaller budget is doubled.
PATIENCE = 64


def test_a_budget_is_halved_from_what_was_too_much() -> None:
    limits = Limits(Budget(1000, 64))
    limits.halve(600)
    assert limits.budget == Budget(300, 32)
    limits.halve(5000)
    assert limits.budget == Budget(150, 16)


def test_a_budget_never_reaches_nothing() -> None:
    limits = Limits(Budget(4, 1))
    for _ in range(5):
        limits.halve(1)
    assert limits.budget == Budget(1, 1)


def test_a_budget_grows_back_to_what_was_configured_and_no_further() -> None:
    limits = Limits(Budget(1000, 7, patience_s=5.0))
    limits.halve(300)
    sizes = []
    for _ in range(4 * PATIENCE):
        limits.succeeded()
        sizes.append(limits.budget.tokens)
    assert sizes[PATIENCE - 2 : PATIENCE] == [150, 300]
    assert limits.budget == Budget(1000, 7, patience_s=5.0)


def test_every_lack_of_memory_starts_the_patience_anew() -> None:
    limits = Limits(Budget(1000, 64))
    for _ in range(2 * PATIENCE):
        limits.succeeded()
    limits.halve(1000)
    for _ in range(PATIENCE - 1):
        limits.succeeded()
    limits.halve(500)
    limits.succeeded()
    assert limits.budget.tokens == 250


def test_a_batch_that_is_too_large_is_tried_again_smaller_and_all_of_it_is_answered() -> None:
    scorer = Halver(memory=35)
    script = run(Script(arrive(job("a", 1, 2, 3), job("b", 4, 5), job("c", 6))), scorer)
    assert [script.statuses(name) for name in "abc"] == [["ok"] * 3, ["ok"] * 2, ["ok"]]
    assert {c: o.values(2)[0, 0] for c, o in script.outcomes("a").items()} == {0: 0.5, 1: 1.0, 2: 1.5}
    assert scorer.batches[0] == 6
    assert max(map(len, scorer.finished)) == 3
    assert script.counts.batch_tokens == 30
    # What did not come to its end is not counted.
    assert sum(delivery.computed_tokens for delivery in script.delivered) == 60


def test_a_candidate_that_is_alone_and_still_too_large_fails_and_may_be_tried_again() -> None:
    script = run(Script(arrive(job("a", 1, 2), job("big", 3, tokens=40))), Halver(memory=25))
    assert script.statuses("a") == ["ok", "ok"]
    (failed,) = script.outcomes("big").values()
    assert (failed.status, failed.logits, failed.retryable) == ("failed", b"", True)
    assert "memory" in (failed.detail or "")


def test_a_candidate_that_is_alone_does_not_halve_the_budget() -> None:
    script = run(Script(arrive(job("big", 3, tokens=40))), Halver(memory=25), tokens=500)
    assert script.counts.batch_tokens == 500


def test_the_budget_grows_back_when_forwards_go_well() -> None:
    later = [arrive(job(f"later {i}", 1)) for i in range(3 * PATIENCE)]
    scorer = Halver(memory=25)
    script = Script(arrive(job("a", 1, 2, 3)), *later, between=True)
    run(script, scorer, tokens=40)
    assert script.counts.batch_tokens == 40
    assert set(script.statuses("a")) == {"ok"}


def test_too_little_memory_for_a_picture_is_not_the_pictures_fault() -> None:
    class Narrow(Halver):
        """No more than one picture at a time."""

        def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
            if sum(len(attempt.computed) for attempt in self.open) > 1:
                raise OutOfMemory("pixels")
            return super().encode(picture, contents)

    scorer = Narrow()
    script = run(Script(arrive(job("a", 1, 2, pictures=(PICTURE,)), job("b", 3))), scorer)
    assert script.statuses("a") + script.statuses("b") == ["ok"] * 3
    assert script.counts.batch_tokens < 30


def test_a_picture_that_never_fits_fails_its_own_group_and_may_be_tried_again() -> None:
    class Full(Halver):
        def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
            raise OutOfMemory("pixels")

    script = run(Script(arrive(job("a", 1, 2, pictures=(PICTURE,)), job("b", 3))), Full())
    assert script.statuses("a") == ["failed", "failed"]
    assert all(outcome.retryable for outcome in script.outcomes("a").values())
    assert script.statuses("b") == ["ok"]


def test_features_are_let_go_of_when_memory_runs_out() -> None:
    scorer = Halver(memory=15)
    script = run(Script(arrive(job("a", 1, 2, pictures=(PICTURE,)))), scorer)
    assert script.statuses("a") == ["ok", "ok"]
    assert scorer.encoded == [*PICTURE.digests] * 2
    assert script.counts.features.evicted == 1
    assert sum(delivery.tiles for delivery in script.delivered) == 2


def test_a_poisoned_batch_that_also_lacks_memory_is_answered_and_counted_once() -> None:
    script = run(Script(arrive(job("a", 1, 2, 13, 4, 5))), Halver(13, memory=15))
    assert script.statuses("a") == ["ok", "ok", "failed", "ok", "ok"]
    assert sum(delivery.computed_tokens for delivery in script.delivered) == 40


@pytest.mark.parametrize("memory", [10, 20, 30, 45, 60])
def test_a_job_that_is_in_a_batch_in_parts_is_counted_once(memory: int) -> None:
    """The halves of a batch are put back candidate by candidate, and may be packed together again."""
    scorer = Halver(13, memory=memory)
    jobs = [job("a", 1, 2, 3, 13), job("b", 4, 5, 6, 7)]
    script = run(Script(arrive(*jobs)), scorer)
    assert script.statuses("a") == ["ok", "ok", "ok", "failed"]
    assert script.statuses("b") == ["ok"] * 4
    computed = {name: sum(d.computed_tokens for d in script.delivered if d.job == name) for name in "ab"}
    assert computed == {"a": 30, "b": 40}


def test_what_interrupts_a_forward_and_finds_no_memory_is_tried_again_after_it() -> None:
    """The lack is the interrupted forward's doing: nothing has failed, and no budget is halved for it."""
    scorer = Halver(memory=105)
    script = run(Script(arrive(job("huge", 1, tokens=100, rank=2)), arrive(job("online", 2, rank=0))), scorer)
    assert script.statuses("huge") + script.statuses("online") == ["ok", "ok"]
    assert scorer.finished == [[1], [2]]
    # Once inside, and once after.
    assert scorer.begun == 3
    assert script.counts.batch_tokens == 1000


def test_the_engine_serves_whatever_the_budget_was_set_to() -> None:
    script, scorer = Script(arrive(job("a", 1, 2))), Halver()
    Engine({"prm": scorer}, script, Budget(1, 1)).run()
    assert script.statuses("a") == ["ok", "ok"]
