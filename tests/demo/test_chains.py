"""The grammar's labels, against a reading of the text by other rules."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from demo.chains import Chain, flipping, nearby, reason, spoil
from demo.facts import ALL_FACTS, Facts
from demo.questions import Question, every_question
from tests.demo.truth import is_true

quick = settings(max_examples=60, deadline=None, derandomize=True)
FACTS = sorted(ALL_FACTS)


@st.composite
def asked(draw: st.DrawFn) -> tuple[Question, Facts, Random]:
    facts = draw(st.sampled_from(FACTS))
    question = draw(st.sampled_from([q for q in every_question() if q.suits(facts)]))
    return question, facts, Random(draw(st.integers(0, 2**32)))


def statements(chain: Chain) -> list[int]:
    return [index for index, step in enumerate(chain.steps) if step.role != "irrelevant"]


@quick
@given(asked(), st.sampled_from(FACTS))
def test_a_consistent_chain_s_steps_are_right_just_where_they_are_true(
    drawn: tuple[Question, Facts, Random], shown: Facts
) -> None:
    question, seen, random = drawn
    chain = reason(question, seen, random)
    judged = chain.judge(shown)
    if question.suits(shown):
        assert [j.right for j in judged] == [is_true(text, question.text, shown) for text in chain.texts]
        assert not any(j.by_text for j in judged)


@quick
@given(asked())
def test_a_chain_is_right_of_what_it_was_reasoned_from(drawn: tuple[Question, Facts, Random]) -> None:
    question, seen, random = drawn
    chain = reason(question, seen, random)
    assert all(judged.right for judged in chain.judge(seen))
    assert chain.succeeds(seen)
    assert 2 <= len(chain.steps) <= 4


@quick
@given(asked())
def test_a_spoilt_chain_has_an_error_that_no_picture_mends(drawn: tuple[Question, Facts, Random]) -> None:
    question, seen, random = drawn
    chain = spoil(reason(question, seen, random), random)
    hopeless = [not any(chain.judge(facts)[index].right for facts in FACTS) for index in range(len(chain.steps))]
    assert any(hopeless)
    assert any(judged.by_text for judged in chain.judge(seen))


@quick
@given(asked(), st.sampled_from(FACTS))
def test_a_right_step_is_true_and_a_wrong_one_false_or_told_by_the_text(
    drawn: tuple[Question, Facts, Random], shown: Facts
) -> None:
    question, seen, random = drawn
    chain = spoil(reason(question, seen, random), random)
    judged = chain.judge(shown)
    for index in statements(chain) if question.suits(shown) else ():
        true = is_true(chain.texts[index], question.text, shown)
        assert true or not judged[index].right
        assert judged[index].right or not true or judged[index].by_text
        assert (judged[index].kind is None) == judged[index].right


@quick
@given(asked())
def test_another_picture_turns_a_chain_s_perception_wrong(drawn: tuple[Question, Facts, Random]) -> None:
    question, seen, random = drawn
    other = nearby(question, seen, random)
    chain = reason(question, seen, random)
    assert other != seen
    assert question.suits(other)
    flipped = flipping(chain, seen, other)
    assert flipped
    perceived = next(index for index, step in enumerate(chain.steps) if step.role == question.matter)
    assert perceived in flipped


def test_wording_order_and_length_vary() -> None:
    random, question = Random(0), every_question()[0]
    chains = [reason(question, FACTS[0], random) for _ in range(300)]
    assert {len(chain.steps) for chain in chains} == {2, 3, 4}
    assert len({chain.texts for chain in chains}) > 100
    assert {chain.steps[0].role for chain in chains} == {"shape", "color"}
