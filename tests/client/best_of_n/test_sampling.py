"""Answers drawn apart from one another: what is drawn, when it stops, what is taken. No I/O, no time."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.best_of_n.choosing import logistic
from steelyard.best_of_n.sampling import Sampling
from steelyard.best_of_n.search import Limits, Reward
from steelyard.best_of_n.strategies import Best, EarlyStop, WeightedVote, described
from steelyard.errors import InvalidCall
from tests.client.best_of_n.settled import OUTCOME, STEPS, limits, play, settled

VOTE = WeightedVote()


def chosen(search: Sampling) -> int:
    choice = search.choose()
    assert choice is not None
    return choice.candidate.number


def test_all_are_drawn_and_the_highest_score_is_taken() -> None:
    search = Sampling(4, Best(), limits(seed=7), STEPS)
    assert [(draw.number, draw.seed) for draw in search.due()] == [(0, 7), (1, 8), (2, 9), (3, 10)]
    for number, score in enumerate([0.2, 0.9, 0.9, 0.1]):
        search.settle(settled(number, score))
    assert (search.stopped, chosen(search)) == ("all were drawn", 1)


def test_no_more_than_may_be_under_way_are_drawn_at_a_time() -> None:
    search = Sampling(4, Best(), limits(2), STEPS)
    assert [draw.number for draw in search.due()] == [0, 1]
    assert search.due() == []
    # Its text is there, so that its place is free while it is scored.
    search.generated(1)
    assert [draw.number for draw in search.due()] == [2]


def test_where_a_rule_may_stop_a_place_is_free_only_when_the_score_is_there() -> None:
    search = Sampling(4, EarlyStop(0.9), limits(), STEPS)
    assert [draw.number for draw in search.due()] == [0]
    search.generated(0)
    assert search.due() == []
    search.settle(settled(0, 0.5))
    assert [draw.number for draw in search.due()] == [1]


def test_the_first_past_the_threshold_stops_and_is_taken() -> None:
    search = Sampling(8, EarlyStop(0.9), limits(1), STEPS)
    assert play(search, [0.5, 0.89, 0.9, 1.0]) == [0, 1, 2]
    assert (search.stopped, chosen(search)) == ("the threshold was reached", 2)


def test_a_candidate_without_a_score_is_passed_over_and_never_ranked() -> None:
    search = Sampling(4, Best(), limits(), OUTCOME)
    play(search, [None, -5.0, None, -7.0])
    assert chosen(search) == 1
    assert [candidate.score for candidate in search.counted()] == [None, -5.0, None, -7.0]


def test_where_nothing_has_a_score_nothing_is_taken() -> None:
    for strategy in (Best(), VOTE, EarlyStop(0.5), EarlyStop(of=VOTE)):
        search = Sampling(3, strategy, limits(), STEPS)
        play(search, [None, None, None])
        assert (search.stopped, search.choose()) == ("all were drawn", None)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_whichever_arrives_first_the_same_candidate_is_taken(order: tuple[int, ...]) -> None:
    search = Sampling(4, EarlyStop(0.8, at_once=4), limits(), STEPS)
    assert len(search.due()) == 4
    for number in order:
        if search.stopped is None:
            search.settle(settled(number, [0.1, 0.85, 0.99, 0.2][number]))
    assert (search.stopped, chosen(search)) == ("the threshold was reached", 1)


def test_a_leader_at_the_highest_score_cannot_be_caught() -> None:
    search = Sampling(8, EarlyStop(), limits(1), STEPS)
    assert play(search, [0.5, 1.0]) == [0, 1]
    assert search.stopped == "the leader cannot be caught"
    # What is not bounded has no highest score.
    search = Sampling(3, EarlyStop(), limits(1), OUTCOME)
    assert play(search, [0.5, 1e9, 2.0]) == [0, 1, 2]


def test_a_vote_goes_to_the_answer_that_weighs_most_and_to_the_best_who_gave_it() -> None:
    texts = ("Answer: Red", "**Answer:** red.", "Answer: blue", "no answer")
    search = Sampling(4, VOTE, limits(), STEPS)
    play(search, [0.3, 0.4, 0.6, 1.0], *texts)
    choice = search.choose()
    assert choice is not None
    assert (choice.candidate.number, choice.answer) == (1, "red")
    assert choice.votes == {"red": pytest.approx(0.7), "blue": 0.6}


def test_unbounded_scores_vote_by_their_logistic() -> None:
    search = Sampling(3, VOTE, limits(), OUTCOME)
    play(search, [-3.0, -3.0, 5.0], "Answer: a", "Answer: a", "Answer: b")
    choice = search.choose()
    assert choice is not None
    assert choice.votes == {"a": pytest.approx(2 * logistic(-3.0)), "b": pytest.approx(logistic(5.0))}
    assert choice.candidate.number == 2
    assert (logistic(-1e9), logistic(1e9)) == (0.0, 1.0)


def test_without_any_answer_the_best_is_taken() -> None:
    search = Sampling(2, VOTE, limits(), STEPS)
    play(search, [0.3, 0.4], "x", "y")
    assert (chosen(search), search.stopped) == (1, "all were drawn")


def test_a_vote_stops_when_no_answer_can_catch_up() -> None:
    search = Sampling(5, EarlyStop(of=VOTE), limits(1), STEPS)
    assert play(search, [1.0, 1.0, 0.9], *["Answer: a"] * 3) == [0, 1, 2]
    assert search.stopped == "the leader cannot be caught"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=8),
    st.sampled_from([EarlyStop(of=VOTE), EarlyStop()]),
)
def test_a_leader_that_cannot_be_caught_is_who_wins_in_the_end(
    drawn: list[tuple[float, str]], strategy: EarlyStop
) -> None:
    scores, texts = [score for score, _ in drawn], [f"Answer: {answer}" for _, answer in drawn]
    early, whole = Sampling(len(drawn), strategy, limits(1), STEPS), Sampling(len(drawn), strategy.of, limits(), STEPS)
    play(early, scores, *texts)
    play(whole, scores, *texts)
    one, other = early.choose(), whole.choose()
    assert one is not None
    assert other is not None
    assert one.answer == other.answer


def test_a_weight_below_zero_is_refused() -> None:
    search = Sampling(1, WeightedVote(weigh=lambda score: score), limits(), OUTCOME)
    play(search, [-1.0])
    with pytest.raises(InvalidCall, match="weigh"):
        search.choose()


def test_a_blend_is_of_the_candidates_that_count() -> None:
    reward = Reward("blend", {"a": 1.0, "b": 1.0}, "zscore")
    search = Sampling(3, Best(), limits(), reward)
    for number, (one, other) in enumerate([(0.0, 10.0), (0.5, 30.0), (1.0, 10.0)]):
        search.settle(settled(number, one + other, own={"a": one, "b": other}))
    assert chosen(search) == 1
    assert sum(candidate.score or 0.0 for candidate in search.counted()) == pytest.approx(0.0)
    with pytest.raises(InvalidCall, match="normalize"):
        Sampling(3, EarlyStop(0.5), limits(), reward)


def test_tokens_are_counted_in_order_and_the_last_one_may_go_over() -> None:
    search = Sampling(8, Best(), limits(1, tokens=25), STEPS)
    assert play(search, [0.5] * 8) == [0, 1, 2]
    assert search.stopped == "the token budget was spent"


def test_when_the_time_is_up_what_is_there_counts() -> None:
    search = Sampling(4, Best(), Limits(4, seconds=10), STEPS)
    search.due()
    search.settle(settled(3, 0.5))
    search.pass_time(9.9)
    search.settle(settled(2, 0.2))
    search.pass_time(10.0)
    assert (search.stopped, chosen(search)) == ("the time budget was spent", 3)


@pytest.mark.parametrize(("n", "fields"), [(0, {}), (1, {"in_flight": 0}), (1, {"tokens": -1}), (1, {"seconds": -1})])
def test_numbers_that_make_no_sense_are_refused(n: int, fields: dict[str, int]) -> None:
    with pytest.raises(InvalidCall):
        Sampling(n, Best(), limits(**fields), STEPS)


def test_none_at_once_is_refused() -> None:
    with pytest.raises(InvalidCall, match="at_once"):
        EarlyStop(0.9, at_once=0)


def test_a_strategy_is_described_the_same_in_every_run() -> None:
    assert described(EarlyStop(0.9, VOTE)) == (
        "EarlyStop(threshold=0.9, of=WeightedVote(extract=final_answer, weigh=None), highest=None, at_once=1)"
    )
