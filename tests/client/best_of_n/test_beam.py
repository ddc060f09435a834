"""Solutions that grow by a step: what is kept, what is proposed, when it ends. No I/O, no time."""

import pytest

from steelyard.best_of_n.beam import Beam
from steelyard.best_of_n.candidates import Draw
from steelyard.best_of_n.search import Limits
from steelyard.best_of_n.strategies import StepBeam
from steelyard.errors import InvalidCall
from tests.client.best_of_n.settled import OUTCOME, STEPS, limits, settled


def grow(beam: Beam, *steps: tuple[str, float | None]) -> list[Draw]:
    """Settle everything that is due by these texts and scores."""
    draws = beam.due()
    for draw, (text, score) in zip(draws, steps, strict=True):
        beam.settle(settled(draw, score, text, finished=beam.is_finished(text, None)))
    return draws


def test_the_best_of_a_depth_are_continued_and_the_rest_is_dropped() -> None:
    beam = Beam(StepBeam(keep=2, propose=2), limits(seed=0), STEPS)
    first = grow(beam, ("a", 0.1), ("b", 0.9), ("c", 0.5), ("d", 0.2))
    assert [(draw.seed, draw.steps) for draw in first] == [(0, ()), (1, ()), (2, ()), (3, ())]
    second = beam.due()
    assert [(draw.number, draw.steps, draw.parent) for draw in second] == [
        (4, ("b",), 1),
        (5, ("b",), 1),
        (6, ("c",), 2),
        (7, ("c",), 2),
    ]


def test_it_ends_when_all_that_are_kept_have_and_takes_the_best() -> None:
    beam = Beam(StepBeam(keep=2, propose=1), limits(), STEPS)
    grow(beam, ("Answer: x", 0.6), ("b", 0.5))
    # The one that has ended is not continued, and keeps its place among those that are kept.
    (draw,) = grow(beam, ("Answer: y", 0.7))
    assert draw.steps == ("b",)
    assert beam.stopped == "every kept solution has ended"
    choice = beam.choose()
    assert choice is not None
    assert (choice.candidate.text, choice.answer) == ("b\n\nAnswer: y", "y")
    assert choice.candidate.parent == 1


def test_equal_solutions_are_kept_once() -> None:
    beam = Beam(StepBeam(keep=2, propose=2), limits(), STEPS)
    grow(beam, ("a", 0.9), ("a", 0.9), ("a", 0.9), ("b", 0.1))
    assert {draw.steps for draw in beam.due()} == {("a",), ("b",)}


def test_arrival_decides_nothing() -> None:
    beam = Beam(StepBeam(keep=1, propose=3), limits(), STEPS)
    draws = beam.due()
    for draw, score in zip(reversed(draws), [0.9, 0.2, 0.9], strict=True):
        beam.settle(settled(draw, score, f"step {draw.number}", finished=False))
    assert {draw.steps for draw in beam.due()} == {("step 0",)}


def test_what_cannot_be_scored_is_not_continued() -> None:
    beam = Beam(StepBeam(keep=2, propose=1), limits(), STEPS)
    grow(beam, ("a", None), ("b", 0.1))
    assert [draw.steps for draw in beam.due()] == [("b",)]


def test_where_nothing_can_be_continued_the_best_so_far_is_told_as_unfinished() -> None:
    beam = Beam(StepBeam(keep=1, propose=1), limits(), STEPS)
    grow(beam, ("a", 0.4))
    grow(beam, ("b", None))
    assert beam.stopped == "no continuation could be scored"
    choice = beam.choose()
    assert choice is not None
    assert (choice.candidate.text, choice.candidate.finished) == ("a", False)
    nothing = Beam(StepBeam(keep=1, propose=1), limits(), STEPS)
    grow(nothing, ("a", None))
    assert nothing.choose() is None


def test_it_grows_no_further_than_it_may() -> None:
    beam = Beam(StepBeam(keep=1, propose=1, max_steps=2), limits(), STEPS)
    grow(beam, ("a", 0.4))
    grow(beam, ("b", 0.4))
    assert beam.stopped == "the step limit was reached"
    spent = Beam(StepBeam(keep=1, propose=1), limits(tokens=10), STEPS)
    grow(spent, ("a", 0.4))
    assert spent.stopped == "the token budget was spent"


def test_when_the_time_is_up_the_depth_that_is_half_done_counts() -> None:
    beam = Beam(StepBeam(keep=1, propose=2), Limits(8, seconds=1), STEPS)
    first, _ = beam.due()
    beam.settle(settled(first, 0.4, "Answer: z"))
    beam.pass_time(1.0)
    choice = beam.choose()
    assert (beam.stopped, choice and choice.answer) == ("the time budget was spent", "z")


def test_no_more_than_may_be_under_way_are_drawn_at_a_time() -> None:
    beam = Beam(StepBeam(keep=2, propose=2), limits(3), STEPS)
    assert [draw.number for draw in beam.due()] == [0, 1, 2]
    beam.generated(1)
    assert [draw.number for draw in beam.due()] == [3]
    assert beam.due() == []


def test_only_a_model_of_steps_can_say_which_step_is_good() -> None:
    with pytest.raises(InvalidCall, match="process reward model"):
        Beam(StepBeam(), limits(), OUTCOME)
    for keep, propose, max_steps in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(InvalidCall):
            StepBeam(keep, propose, max_steps)
