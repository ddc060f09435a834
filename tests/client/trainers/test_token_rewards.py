"""A step's score lands on the policy's token that ends the step, whatever cuts the text into tokens."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from steelyard.trainers.token_rewards import Span, last_tokens, token_rewards

SEPARATOR = "\n\n"
TEXTS = st.text(st.sampled_from("ab é漢😀\n"), max_size=12)


@st.composite
def texts_in_steps_and_tokens(draw: st.DrawFn) -> tuple[str, list[Span], list[Span]]:
    """A text, the spans of its steps as the server gives them, and the offsets of some tokenizer for it."""
    steps = draw(st.lists(TEXTS.filter(lambda text: SEPARATOR not in text), min_size=1, max_size=5))
    text = SEPARATOR.join(steps)
    spans, start = [], 0
    for step in steps:
        spans.append((start, start + len(step)))
        start += len(step) + len(SEPARATOR)
    return text, spans, draw(offsets_of(text))


@st.composite
def offsets_of(draw: st.DrawFn, text: str) -> list[Span]:
    """Cuts anywhere; tokens that share a letter's bytes; letters in no token; special tokens in between."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    offsets: list[Span] = []
    for start, end in pairwise(cuts):
        pieces = draw(st.integers(0, 3)) if end - start == 1 else 1
        offsets += [(start, end)] * pieces
        offsets += [(0, 0)] * draw(st.integers(0, 1))
    return offsets


@given(texts_in_steps_and_tokens())
def test_a_step_lands_on_the_last_token_that_has_a_letter_of_it(case: tuple[str, list[Span], list[Span]]) -> None:
    _, spans, offsets = case
    if all(start == end for start, end in offsets):
        with pytest.raises(ValueError, match="none of the tokens"):
            last_tokens(spans, offsets)
        return
    for (start, end), token in zip(spans, last_tokens(spans, offsets), strict=True):
        overlapping = [i for i, (first, last) in enumerate(offsets) if first < min(last, end) and last > start]
        if start < end and overlapping:
            assert token == overlapping[-1]
        else:
            before = [i for i, (first, last) in enumerate(offsets) if first < min(last, end)]
            carrying = [i for i, (first, last) in enumerate(offsets) if first < last]
            assert token == (before or carrying[:1])[-1]


@given(texts_in_steps_and_tokens(), st.data())
def test_no_score_is_lost_and_none_is_invented(case: tuple[str, list[Span], list[Span]], data: st.DataObject) -> None:
    _, spans, offsets = case
    if all(start == end for start, end in offsets):
        return
    # Quarters: their sums are exact.
    scores = [data.draw(st.integers(-8, 8)) / 4 for _ in spans]
    rewards = token_rewards(scores, spans, offsets)
    assert len(rewards) == len(offsets)
    assert sum(rewards) == sum(scores)
    assert all(rewards[i] == 0 for i in set(range(len(offsets))) - set(last_tokens(spans, offsets)))


def test_steps_land_in_their_order_and_the_last_one_on_the_last_token_of_text() -> None:
    # "Red.", "\n\n", "Round", ".", then the end of the sequence.
    offsets = [(0, 4), (4, 6), (6, 11), (11, 12), (0, 0)]
    assert token_rewards([0.25, 0.5], [(0, 4), (6, 12)], offsets) == [0.25, 0, 0, 0.5, 0]


def test_a_token_that_holds_two_ends_gets_both() -> None:
    assert token_rewards([0.25, 0.5], [(0, 1), (3, 4)], [(0, 4)]) == [0.75]


def test_a_letter_of_several_tokens_counts_on_its_last() -> None:
    assert last_tokens([(0, 1), (3, 4)], [(0, 1), (0, 1), (1, 3), (3, 4), (3, 4)]) == [1, 4]


def test_the_offsets_of_a_tokenizer_of_bytes_are_taken_as_they_are() -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(alphabet))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    offsets = tokenizer.encode("漢😀\n\né.").offsets
    # Three bytes, four, two line breaks, two bytes, a full stop.
    assert len(offsets) == 12
    assert last_tokens([(0, 2), (4, 5), (4, 6)], offsets) == [6, 10, 11]


def test_an_outcome_score_has_no_steps_to_place() -> None:
    assert token_rewards([], [], [(0, 4)]) == [0.0]


def test_scores_without_a_span_each_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        token_rewards([0.5, 0.5], [(0, 4)], [(0, 4)])
