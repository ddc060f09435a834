"""The books: a planted loss, a planted double and a planted wrong bit are each found, and nothing else is."""

import pytest

from loadtest.ledger import Ledger
from loadtest.rows import Misshapen, Rows, rows_of
from steelyard.schema import StepScores
from tests.client.answers import steps
from tests.loadtest.answers import answer, scored

A, B, C = b"a", b"b", b"c"


def opened(*expected: Rows) -> Ledger:
    ledger = Ledger(expected)
    for group in range(len(expected)):
        ledger.open(f"id-{group}", group)
    return ledger


def test_right_answers_hold_also_the_second_time() -> None:
    ledger = opened((A, B), (C,))
    for _ in range(2):
        assert ledger.answer("id-0", "here", (A, B))
        assert ledger.answer("id-1", "there", (C,))
    verdict = ledger.verdict()
    assert verdict.holds
    assert (verdict.accepted, verdict.answered) == (2, 2)


def test_an_accepted_id_without_an_answer_is_lost() -> None:
    ledger = opened((A,), (B,))
    ledger.answer("id-0", "here", (A,))
    ledger.accept("id-1")
    verdict = ledger.verdict()
    assert verdict.lost == ("id-1",)
    assert not verdict.holds


def test_a_candidate_without_a_final_answer_makes_its_id_lost() -> None:
    ledger = opened((A, B))
    assert not ledger.answer("id-0", "here", (A, None))
    assert ledger.verdict().lost == ("id-0",)
    assert ledger.answer("id-0", "here", (None, B))
    assert ledger.verdict().holds


def test_an_id_that_was_only_refused_is_told_from_a_lost_one() -> None:
    verdict = opened((A,)).verdict()
    assert (verdict.refused, verdict.lost, verdict.holds) == (("id-0",), (), False)


def test_other_bits_than_the_single_process_gave_are_wrong() -> None:
    ledger = opened((A, B))
    ledger.answer("id-0", "here", (A, C))
    verdict = ledger.verdict()
    assert (verdict.wrong, verdict.duplicated, verdict.lost) == (("id-0",), (), ())
    assert not verdict.holds


def test_two_numbers_under_one_id_are_duplicated() -> None:
    ledger = opened((A, B))
    ledger.answer("id-0", "here", (A, B))
    ledger.answer("id-0", "there", (A, C))
    verdict = ledger.verdict()
    assert verdict.duplicated == ("id-0",)
    assert not verdict.holds


def test_an_answer_that_cannot_be_had_again_breaks_the_run() -> None:
    ledger = opened((A,))
    ledger.answer("id-0", "here", (A,))
    ledger.forget("id-0")
    assert not ledger.verdict().holds


def test_one_bit_of_one_logit_makes_another_row() -> None:
    one, other = 0.1, 0.10000000000000002
    assert rows_of(answer(one), 1) == rows_of(answer(one), 1)
    assert rows_of(answer(one), 1) != rows_of(answer(other), 1)
    assert rows_of(answer(0.0), 1) != rows_of(answer(-0.0), 1)


def test_failed_and_expired_candidates_have_no_row_and_refused_ones_have() -> None:
    results = [StepScores(index=0, status="failed"), StepScores(index=1, status="expired")]
    rows = rows_of(steps(*results, StepScores(index=2, status="too_long")), 3)
    assert rows[:2] == (None, None)
    assert rows[2] is not None


@pytest.mark.parametrize("indices", [(0, 0), (0,), (1, 0), (0, 1, 1)])
def test_an_answer_without_just_one_row_a_candidate_is_misshapen(indices: tuple[int, ...]) -> None:
    with pytest.raises(Misshapen):
        rows_of(steps(*(scored(index, 0.1) for index in indices)), 2)
