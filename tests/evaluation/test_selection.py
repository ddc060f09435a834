"""Expected accuracies, against enumeration of every draw."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.selection import DRAWS, blended, by_chance, by_score, by_vote, oracle

# (score, correct, answer) of up to 6 candidates: all subsets are enumerated.
POOLS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([None, "1", "2", "3"])), min_size=1, max_size=6
)
Pool = list[tuple[int, bool, str | None]]


def draws(pool: Pool, n: int) -> list[Pool]:
    return [list(drawn) for drawn in combinations(pool, n)]


def average(values: list[float]) -> float:
    return sum(values) / len(values)


@given(POOLS, st.data())
def test_expectations_equal_an_enumeration_of_all_draws(pool: Pool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    scores, correct = [float(score) for score, _, _ in pool], [right for _, right, _ in pool]
    subsets = draws(pool, n)
    assert by_chance(correct) == pytest.approx(average([average([float(r) for _, r, _ in drawn]) for drawn in subsets]))
    assert oracle(correct, n) == pytest.approx(average([float(any(r for _, r, _ in drawn)) for drawn in subsets]))
    tops = [[r for s, r, _ in drawn if s == max(s for s, _, _ in drawn)] for drawn in subsets]
    assert by_score(scores, correct, n) == pytest.approx(average([average([float(r) for r in top]) for top in tops]))


@given(POOLS, st.data())
def test_votes_equal_an_enumeration_with_ties_shared(pool: Pool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    expected = []
    for drawn in draws(pool, n):
        votes = Counter(answer for _, _, answer in drawn if answer is not None)
        winners: list[str | None] = [answer for answer, count in votes.items() if count == max(votes.values())]
        winners = winners or [None]
        expected.append(average([average([float(r) for _, r, a in drawn if a == w]) for w in winners]))
    answers, correct = [answer for _, _, answer in pool], [right for _, right, _ in pool]
    assert by_vote(answers, correct, n, "seed") == pytest.approx(average(expected))


@given(POOLS, st.data())
def test_a_blend_of_one_weight_is_that_score_alone(pool: Pool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    scores, correct = [float(score) for score, _, _ in pool], [right for _, right, _ in pool]
    others = [float(index) for index in range(len(pool))]
    assert blended(scores, others, 1.0, correct, n, "seed") == pytest.approx(by_score(scores, correct, n))
    assert blended(others, scores, 0.0, correct, n, "seed") == pytest.approx(by_score(scores, correct, n))


@given(POOLS)
def test_one_candidate_leaves_nothing_to_choose(pool: Pool) -> None:
    scores, correct = [float(score) for score, _, _ in pool], [right for _, right, _ in pool]
    answers = [answer for _, _, answer in pool]
    chance = by_chance(correct)
    assert oracle(correct, 1) == pytest.approx(chance)
    assert by_score(scores, correct, 1) == pytest.approx(chance)
    assert by_vote(answers, correct, 1, "seed") == pytest.approx(chance)


def test_many_draws_are_seeded_and_near_the_expectation() -> None:
    correct = [index % 4 == 0 for index in range(40)]
    answers = ["right" if right else f"wrong {index % 7}" for index, right in enumerate(correct)]
    found = by_vote(answers, correct, 16, "seed")
    assert found == by_vote(answers, correct, 16, "seed")
    assert abs(found - by_vote(answers, correct, 16, "another")) < 5 / DRAWS**0.5
