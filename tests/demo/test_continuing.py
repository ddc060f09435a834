"""The policy a step at a time says what it says in whole chains, as often."""

from collections import Counter
from random import Random

import pytest

from demo.chains import plans, reason
from demo.continuing import Unheard, is_whole, next_step, whole_chain
from demo.policy import Asked, candidates, draw_questions, perceptions
from demo.policy_server import Refused, complete

DRAWS = 3000


@pytest.fixture(scope="module")
def asked() -> Asked:
    return draw_questions("test", 0, 1)[0]


def shares(drawn: list[str]) -> Counter[str]:
    return Counter({text: count / len(drawn) for text, count in Counter(drawn).items()})


def test_plans_and_perceptions_are_whole_distributions(asked: Asked) -> None:
    assert sum(plans(asked.question).values()) == pytest.approx(1)
    assert sum(perceptions(asked, 0).values()) == pytest.approx(1)


def test_plans_are_as_likely_as_the_policy_reasons(asked: Asked) -> None:
    random = Random(0)
    drawn = [tuple(s.role for s in reason(asked.question, asked.picture.facts, random).steps) for _ in range(DRAWS)]
    for roles, chance in plans(asked.question).items():
        assert drawn.count(roles) / DRAWS == pytest.approx(chance, abs=0.03)


def test_answers_drawn_step_by_step_are_as_often_right(asked: Asked) -> None:
    whole = shares([chain.answer for chain in candidates(asked, 0, DRAWS)])
    random = Random(0)
    stepwise = shares([whole_chain(asked, 0, (), random)[-1].removeprefix("Answer: ") for _ in range(DRAWS // 3)])
    for answer in whole:
        assert stepwise[answer] == pytest.approx(whole[answer], abs=0.06)


def test_a_chain_stays_with_what_it_saw(asked: Asked) -> None:
    chain = candidates(asked, 0, 1)[0].texts
    for count in range(len(chain)):
        rest = whole_chain(asked, 0, chain[:count], Random(count))
        assert rest[:count] == list(chain[:count])
        assert is_whole(rest)
    with pytest.raises(Unheard):
        next_step(asked, 0, ["The moon is made of cheese."], Random(0))


@pytest.mark.parametrize(
    "messages",
    [None, [], ["x"], [{"role": "user"}], [{"role": "user", "content": [{"type": "text", "text": "why?"}]}]],
)
def test_the_served_policy_refuses_what_it_cannot_answer(messages: object) -> None:
    with pytest.raises(Refused):
        complete({"messages": messages}, 0)
