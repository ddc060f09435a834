import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import CheckpointError
from models.encoded import (
    ControlTokens,
    EncodedCandidate,
    EncodedGroup,
    MarkerCount,
    PictureRun,
    Unscorable,
    describe,
    template,
)
from models.ixc_reward.prompt import MARKER, Message, OutcomePrompt, UnknownRole, render
from models.ixc_reward.spec import read_spec
from models.tokenizer import Segment, Tokenizer, load_tokenizer
from tests.golden import TINY_IXC_REWARD

FRAGMENTS = ["a", " b", "\n", "", "12", "é😀", "[UNUSED_TOKEN_145]", "</s>", "<s>", "<|im_start|>user\n", "[UNUSED_"]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join)
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), max_size=3)
controls = st.sampled_from(["parse", "literal"])
ASKED = [Message("user", "Which shape is red?")]
REWARD = 1130


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(TINY_IXC_REWARD)


@cache
def prompt() -> OutcomePrompt:
    return OutcomePrompt(read_spec(TINY_IXC_REWARD), tokenizer())


def scored(group: EncodedGroup, index: int = 0) -> EncodedCandidate:
    candidate = group.candidates[index]
    assert isinstance(candidate, EncodedCandidate)
    return candidate


def refusal(group: EncodedGroup, index: int = 0) -> str:
    candidate = group.candidates[index]
    assert isinstance(candidate, Unscorable)
    return f"{candidate.reason}: {candidate.detail}"


def group_of(
    *candidates: str,
    asked: list[Message] = ASKED,
    pictures: tuple[int, ...] = (),
    control: ControlTokens = "parse",
    max_tokens: int = 10_000,
) -> EncodedGroup:
    return prompt().encode_group(asked, pictures, candidates, control, max_tokens)


@given(messages, st.lists(texts, min_size=1, max_size=4), st.lists(st.integers(1, 9), max_size=2), controls)
def test_a_candidate_is_the_last_turn_of_a_conversation(
    asked: list[Message], candidates: list[str], pictures: list[int], control: ControlTokens
) -> None:
    group = prompt().encode_group(asked, pictures, candidates, control, 10_000)
    for index, candidate in enumerate(candidates):
        whole = [*asked, Message("assistant", candidate)]
        alone = prompt().encode_conversation(whole, pictures, control, 10_000)
        assert group.ids(index).tolist() == alone.ids(0).tolist()
        assert group.pictures == alone.pictures
        assert scored(group, index).readouts.tolist() == [len(group.ids(index)) - 1]
        assert group.ids(index)[-1] == REWARD


@given(messages, st.integers(0, 1))
def test_a_conversation_is_what_the_reference_tokenises(asked: list[Message], pictures: int) -> None:
    group = prompt().encode_conversation(asked, [7] * pictures, "parse", 10_000)
    theirs = prompt().encode_reference(render(asked), [7] * pictures, 10_000)
    assert group.ids(0).tolist() == theirs.ids.tolist()
    assert group.pictures == theirs.pictures


@given(messages, controls, st.integers(0, 60) | st.just(10_000))
def test_turns_encode_apart_as_they_do_in_one_text(asked: list[Message], control: ControlTokens, most: int) -> None:
    segments = []
    for role, said in asked:
        assert isinstance(said, str)
        segments += [template(f"[UNUSED_TOKEN_146]{role}\n"), Segment(said), template("[UNUSED_TOKEN_145]\n")]
    segments.append(template("</s>[UNUSED_TOKEN_130]"))
    whole = tokenizer().encode(segments, literal=control == "literal")
    group = prompt().encode_conversation(asked, [], control, most)
    if 1 + len(whole.ids) > most:
        assert refusal(group).startswith("too_long")
    else:
        assert group.ids(0).tolist() == [*tokenizer().bos, *whole.ids]
        assert scored(group).detail == describe({"messages": whole.control}, control)


def test_several_pictures_without_a_marker_come_before_the_first_turn_in_order() -> None:
    group = group_of("The circle.", pictures=(13, 27))
    assert group.pictures == (PictureRun(1, 13), PictureRun(14, 27))
    marked = group_of("The circle.", asked=[Message("user", ASKED[0].content)], pictures=())
    assert group.ids(0)[41:].tolist() == marked.ids(0)[1:].tolist()


def test_a_marker_is_a_place_in_any_message() -> None:
    asked = [Message("system", f"See {MARKER}."), Message("user", "q"), Message("assistant", MARKER)]
    group = group_of("yes", asked=asked, pictures=(13, 27))
    theirs = prompt().encode_reference(render([*asked, Message("assistant", "yes")]), [13, 27], 10_000)
    assert group.ids(0).tolist() == theirs.ids.tolist()
    assert [run.tokens for run in group.pictures] == [13, 27]


@pytest.mark.parametrize(("markers", "pictures"), [(1, 0), (1, 2), (2, 1), (3, 2)])
def test_another_number_of_markers_than_pictures_is_an_error(markers: int, pictures: int) -> None:
    with pytest.raises(MarkerCount, match=f"{markers} <ImageHere> markers for {pictures} pictures") as raised:
        group_of("a", asked=[Message("user", MARKER * markers)], pictures=(13,) * pictures)
    assert (raised.value.markers, raised.value.pictures) == (markers, pictures)


def test_a_candidate_that_writes_a_marker_is_refused_and_its_neighbours_scored() -> None:
    group = group_of("fine", f"see {MARKER}", pictures=(13,))
    assert scored(group, 0).detail is None
    assert refusal(group, 1).startswith("refused: <ImageHere> in the candidate")


def test_a_role_that_the_prompt_has_not_is_refused() -> None:
    with pytest.raises(UnknownRole, match="found 'tool'"):
        render([Message("tool", "x")])  # type: ignore[arg-type]


def test_nothing_merges_across_a_picture() -> None:
    joined, apart = (
        group_of("x", asked=[Message("user", text)], pictures=pictures)
        for text, pictures in (("1234 the", ()), (f"12{MARKER}34 the", (5,)))
    )
    without = np.delete(apart.ids(0), np.s_[apart.pictures[0].offset : apart.pictures[0].offset + 5])
    assert len(without) >= len(joined.ids(0))


@pytest.mark.parametrize("text", ["[UNUSED_TOKEN_130]", "</s>", "<s>", "[UNUSED_TOKEN_145]", "<|im_end|>"])
def test_control_text_is_read_spelt_out_or_refused(text: str) -> None:
    asked = [Message("user", f"a{text}b")]
    read, spelt, refused = (group_of("c", asked=asked, control=c) for c in ("parse", "literal", "refuse"))
    assert len(read.ids(0)) < len(spelt.ids(0))
    assert scored(read).detail == f"control text in the messages: {text}; read as control tokens"
    assert scored(spelt).detail == f"control text in the messages: {text}; spelt out in plain pieces"
    assert refusal(refused) == f"refused: control text in the messages: {text}"
    plain = group_of("c", asked=[Message("user", "ab")])
    control_ids = {1, 2, *range(1100, 1147)}
    assert sum(id_ in control_ids for id_ in spelt.ids(0)) == sum(id_ in control_ids for id_ in plain.ids(0))


def test_only_the_candidate_with_control_text_is_refused() -> None:
    group = group_of("a", "b</s>", control="refuse")
    assert scored(group).detail is None
    assert refusal(group, 1) == "refused: control text in the candidate: </s>"


def test_a_prompt_that_the_reference_would_cut_is_too_long() -> None:
    length = len(group_of("a").ids(0))
    assert scored(group_of("a", max_tokens=length)).readouts.tolist() == [length - 1]
    group = group_of("a", "a b c d e f g h", max_tokens=length)
    assert len(group.ids(0)) == length
    assert refusal(group, 1) == f"too_long: the prompt has more than {length} tokens"
    assert refusal(group_of("a", pictures=(10_000,))).startswith("too_long")
    assert refusal(group_of("a", max_tokens=3)).startswith("too_long")


def test_the_reference_s_prompt_is_cut_inside_a_picture() -> None:
    theirs = prompt().encode_reference(f"a{MARKER}b{MARKER}c", [10, 20], 8)
    assert (len(theirs.ids), theirs.pictures) == (12, (PictureRun(2, 10),))
    assert theirs.cut(8).pictures == (PictureRun(2, 6),)
    assert theirs.cut(2).pictures == ()
    assert len(theirs.cut(8).ids) == 8


def test_a_tokenizer_that_outgrows_the_embedding_is_refused() -> None:
    spec = read_spec(TINY_IXC_REWARD)
    small = replace(spec, decoder=replace(spec.decoder, vocab_size=1146))
    with pytest.raises(CheckpointError, match="the tokenizer has 1147 ids, the decoder 1146"):
        OutcomePrompt(small, load_tokenizer(TINY_IXC_REWARD))


def test_a_hundred_thousand_turns_of_control_text_are_too_long_soon() -> None:
    """Looking each control token up among all turns took 36 s."""
    started = time.process_time()
    group = prompt().encode_conversation([Message("user", "</s>")] * 100_000, [], "literal", 16_384)
    assert refusal(group).startswith("too_long")
    assert time.process_time() - started < 10


def test_millions_of_markers_are_counted_not_split() -> None:
    started = time.process_time()
    with pytest.raises(MarkerCount):
        prompt().encode_conversation([Message("user", MARKER * 5_000_000)], [], "parse", 16_384)
    assert time.process_time() - started < 3
