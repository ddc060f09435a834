"""Remembered tokens change no id, no error and no score, however small the budget."""

import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import Checkpoint
from models.encoded import ControlTokens, EncodedGroup, Unscorable
from models.ixc_reward.prompt import Message, OutcomePrompt
from models.ixc_reward.spec import read_spec as read_ixc_reward
from models.token_cache import TextKey, TokenCache
from models.tokenizer import Segment, Tokenizer, TooManyTokens, load_tokenizer
from models.visual_prm.prompt import StepPrompt
from models.visual_prm.spec import read_spec as read_visual_prm
from service.encoding import read_model
from service.metrics import Metrics
from steelyard.schema import ScoreOutcomesRequest, ScoreStepsRequest
from tests.conformance.in_process import InProcess
from tests.golden import TINY_IXC_REWARD, TINY_VISUAL_PRM

ROOMY = 2**20
# A few short texts.
TINY = 16_000
OWNER = object()
CONTROL = [
    "<|im_start|>",
    "<|im_end|>\n",
    "</s>",
    "[UNUSED_TOKEN_146]",
    "[UNUSED_TOKEN_145]\n",
    "<image>",
    "<ImageHere>",
]
FRAGMENTS = [*CONTROL, "<", "/s>", "[UNUSED_TOKEN_", "146]", "\n", "\n\n", " ", "a", " the", "12", "é", "😀", "\ud800"]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join)
segment_lists = st.lists(st.builds(Segment, texts, st.booleans()), max_size=4)
limits = st.none() | st.integers(0, 12)
controls = st.sampled_from(["parse", "literal", "refuse"])
long_or_short = st.sampled_from([40, 60, 100_000])
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), max_size=3)


def key(text: str, users: tuple[tuple[int, int], ...] = ()) -> TextKey:
    return (OWNER, text, False, users)


@cache
def tiny_cache(of: str) -> TokenCache:
    """One for each test, so that its examples displace one another."""
    return TokenCache(TINY)


@cache
def tokenizer(directory: Path, of: str | None = None) -> Tokenizer:
    return load_tokenizer(directory, None if of is None else tiny_cache(of))


def step_prompt(token_cache: TokenCache | None) -> StepPrompt:
    return StepPrompt(read_visual_prm(TINY_VISUAL_PRM), load_tokenizer(TINY_VISUAL_PRM, token_cache))


def outcome_prompt(token_cache: TokenCache | None) -> OutcomePrompt:
    return OutcomePrompt(read_ixc_reward(TINY_IXC_REWARD), load_tokenizer(TINY_IXC_REWARD, token_cache))


@cache
def step_prompts() -> tuple[StepPrompt, StepPrompt]:
    return step_prompt(None), step_prompt(tiny_cache("steps"))


@cache
def outcome_prompts() -> tuple[OutcomePrompt, OutcomePrompt]:
    return outcome_prompt(None), outcome_prompt(tiny_cache("outcomes"))


def outcome(
    encoder: Tokenizer, segments: Sequence[Segment], literal: bool, most: int | None
) -> tuple[list[int], tuple[str, ...]] | str:
    try:
        ids, control = encoder.encode(segments, literal=literal, max_tokens=most)
    except TooManyTokens:
        return "too many"
    assert ids.dtype == np.int32
    return ids.tolist(), control


def content(group: EncodedGroup) -> tuple[object, ...]:
    candidates = [
        it if isinstance(it, Unscorable) else (it.suffix.tolist(), it.readouts.tolist(), it.detail)
        for it in group.candidates
    ]
    return group.prefix.tolist(), group.pictures, candidates


def misses(token_cache: TokenCache, ask: Callable[[], object]) -> int:
    """How many texts it tokenises."""
    before = token_cache.misses
    ask()
    return token_cache.misses - before


def scorers(directory: Path, token_cache: TokenCache) -> tuple[InProcess, InProcess]:
    """One without a memory, one with this."""
    plain, remembering = InProcess(directory, "float32"), InProcess(directory, "float32")
    remembering.gateway_model = read_model(plain.gateway_model.name, Checkpoint(directory), None, token_cache)
    return plain, remembering


def test_what_is_put_is_had_again_and_counted() -> None:
    kept = TokenCache(ROOMY)
    assert kept.get(key("a")) is None
    kept.put(key("a"), (b"1234", ("</s>",)))
    assert kept.get(key("a")) == (b"1234", ("</s>",))
    assert (kept.hits, kept.misses, kept.evictions) == (1, 1, 0)
    assert kept.bytes > len("a") + len(b"1234")


def test_the_least_recently_asked_goes_first_and_the_budget_is_kept() -> None:
    sized = TokenCache(ROOMY)
    sized.put(key("0"), (bytes(4), ()))
    kept = TokenCache(9 * sized.bytes)
    for text in "012345678":
        kept.put(key(text), (bytes(4), ()))
    assert (kept.bytes, kept.evictions) == (9 * sized.bytes, 0)
    assert kept.get(key("0"))
    kept.put(key("9"), (bytes(4), ()))
    assert [text for text in "0123456789" if kept.get(key(text)) is None] == ["1"]
    assert (kept.bytes, kept.evictions) == (9 * sized.bytes, 1)


def test_the_same_text_is_kept_once() -> None:
    kept = TokenCache(ROOMY)
    kept.put(key("a"), (bytes(4), ()))
    before = kept.bytes
    kept.put(key("a"), (bytes(4), ()))
    assert kept.bytes == before


@pytest.mark.parametrize(
    ("text", "ids", "control", "users"),
    [
        ("a" * 10_000, 4, (), ()),
        ("的" * 5_000, 4, (), ()),
        ("a", 10_000, (), ()),
        ("a", 4, ("</s>",) * 200, ()),
        ("a", 4, (), ((0, 1),) * 100),
    ],
)
def test_what_takes_more_than_an_eighth_of_the_budget_is_not_kept(
    text: str, ids: int, control: tuple[str, ...], users: tuple[tuple[int, int], ...]
) -> None:
    for budget, is_kept in ((8 * 9_000, False), (8 * 20_000, True)):
        kept = TokenCache(budget)
        kept.put(key(text, users), (bytes(ids), control))
        assert (kept.get(key(text, users)) is not None) == is_kept == (kept.bytes > 0)


def test_a_budget_of_nothing_keeps_nothing() -> None:
    kept = TokenCache(0)
    kept.put(key(""), (b"", ()))
    assert kept.get(key("")) is None
    assert kept.bytes == 0


def test_threads_that_fight_for_a_small_budget_get_what_was_put_and_never_break_it() -> None:
    kept, asks = TokenCache(TINY), 4_000

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(asks):
            text = str(rng.randrange(60)) * rng.choice([1, 1, 40])
            known = kept.get(key(text))
            assert known is None or known == (text.encode(), ())
            kept.put(key(text), (text.encode(), ()))
            assert kept.bytes <= TINY

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(hammer, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert kept.hits + kept.misses == 8 * asks
    assert kept.hits > 0 < kept.evictions
    fresh = TokenCache(TINY)
    for text in range(1_000, 1_100):
        fresh.put(key(str(text)), (b"", ()))
        kept.put(key(str(text)), (b"", ()))
    assert kept.bytes == fresh.bytes


@given(segment_lists, st.booleans(), limits)
def test_a_tokenizer_that_forgets_at_once_encodes_as_one_without_a_memory(
    segments: list[Segment], literal: bool, most: int | None
) -> None:
    for directory in (TINY_VISUAL_PRM, TINY_IXC_REWARD):
        plain, remembering = tokenizer(directory), tokenizer(directory, "segments")
        expected = outcome(plain, segments, literal, most)
        for _ in range(2):
            assert outcome(remembering, segments, literal, most) == expected
        assert outcome(remembering, segments, literal, None) == outcome(plain, segments, literal, None)
        assert outcome(remembering, segments, literal, most) == expected
    assert tiny_cache("segments").bytes <= TINY


@given(texts, st.lists(st.lists(texts, min_size=1, max_size=4), min_size=1, max_size=3), controls, long_or_short)
def test_step_prompts_are_the_same_with_and_without_a_memory(
    question: str, candidates: list[list[str]], control: ControlTokens, most: int
) -> None:
    tiles = [1] * question.count("<image>")
    plain, *twice = (
        content(prompt.encode_group(question, tiles, candidates, control, most))
        for prompt in (step_prompts()[0], *[step_prompts()[1]] * 2)
    )
    assert twice == [plain, plain]


@given(messages, st.lists(texts, min_size=1, max_size=3), controls, long_or_short)
def test_outcome_prompts_are_the_same_with_and_without_a_memory(
    asked: list[Message], candidates: list[str], control: ControlTokens, most: int
) -> None:
    pictures = [3] * sum(str(message.content).count("<ImageHere>") for message in asked)

    def both(prompt: OutcomePrompt) -> list[object]:
        group = prompt.encode_group(asked, pictures, candidates, control, most)
        return [content(group), content(prompt.encode_conversation(asked, pictures, control, most))]

    plain, remembering = outcome_prompts()
    expected = both(plain)
    assert both(remembering) == expected
    assert both(remembering) == expected


def test_threads_share_a_tokenizer_that_forgets() -> None:
    kept = TokenCache(TINY)
    plain, remembering = tokenizer(TINY_VISUAL_PRM), load_tokenizer(TINY_VISUAL_PRM, kept)
    rng = random.Random(0)
    asked = [[Segment("".join(rng.choices(FRAGMENTS, k=4))), Segment("</s>", rng.random() < 0.5)] for _ in range(300)]
    with ThreadPoolExecutor(8) as pool:
        for literal in (False, True):
            had = pool.map(lambda segments: outcome(remembering, segments, literal, None), asked * 4)  # noqa: B023
            assert list(had) == [outcome(plain, segments, literal, None) for segments in asked * 4]
    assert kept.bytes <= TINY
    assert kept.evictions > 0


def test_one_text_in_other_hands_or_spelt_otherwise_is_another() -> None:
    kept = TokenCache(ROOMY)
    encoder = load_tokenizer(TINY_VISUAL_PRM, kept)
    users, ours, half = [Segment("</s>")], [Segment("</s>", True)], [Segment("</", True), Segment("s>")]
    for segments in (users, ours, half):
        for literal in (False, True):
            expected = outcome(tokenizer(TINY_VISUAL_PRM), segments, literal, None)
            assert misses(kept, lambda: outcome(encoder, segments, literal, None)) == 1  # noqa: B023
            assert outcome(encoder, segments, literal, None) == expected


def test_cut_otherwise_but_written_by_the_same_a_text_is_the_same() -> None:
    kept = TokenCache(ROOMY)
    encoder = load_tokenizer(TINY_VISUAL_PRM, kept)
    encoder.encode([Segment("ab", True), Segment("c")])
    assert misses(kept, lambda: encoder.encode([Segment("a", True), Segment("b", True), Segment("c")])) == 0


def test_tokenizers_that_share_a_budget_share_no_text() -> None:
    kept = TokenCache(ROOMY)
    ones, others = load_tokenizer(TINY_VISUAL_PRM, kept), load_tokenizer(TINY_IXC_REWARD, kept)
    ids = [encoder.encode([Segment("[UNUSED_TOKEN_146]")]).ids.tolist() for encoder in (ones, others) * 2]
    assert ids[:2] == ids[2:]
    assert (kept.hits, kept.misses) == (2, 2)


def test_remembered_ids_cannot_be_changed() -> None:
    encoder = load_tokenizer(TINY_VISUAL_PRM, TokenCache(ROOMY))
    for text in ("plain", "a</s>b"):
        first = encoder.encode([Segment(text)]).ids.copy()
        again = encoder.encode([Segment(text)]).ids
        with pytest.raises(ValueError, match="read-only"):
            again[0] = 7
        with pytest.raises(ValueError, match="WRITEABLE"):
            again.flags.writeable = True
        assert (encoder.encode([Segment(text)]).ids == first).all()


def test_a_remembered_text_is_still_too_long_and_an_error_is_not_remembered() -> None:
    kept = TokenCache(ROOMY)
    encoder, segments = load_tokenizer(TINY_VISUAL_PRM, kept), [Segment("1 2 3</s>4")]
    with pytest.raises(TooManyTokens):
        encoder.encode(segments, max_tokens=2)
    assert kept.bytes == 0
    length = len(encoder.encode(segments).ids)
    assert kept.bytes > 0
    assert len(encoder.encode(segments, max_tokens=length).ids) == length
    with pytest.raises(TooManyTokens):
        encoder.encode(segments, max_tokens=length - 1)
    assert (kept.hits, kept.misses) == (2, 2)


def test_a_question_that_was_seen_pays_for_its_new_answers_alone() -> None:
    kept = TokenCache(ROOMY)
    prompt = step_prompt(kept)

    def ask(*candidates: list[str], question: str = "How many are red?") -> int:
        return misses(kept, lambda: prompt.encode_group(question, [1], candidates, "parse", 1000))

    # The system turn, the text before the picture and behind it, four steps.
    assert ask(["one", "two"], ["one", "three", "four"]) == 7
    assert ask(["one", "two"], ["one", "three", "four"]) == 0
    assert ask(["new"], ["one", "new"]) == 2
    assert ask(["one", "three", "four", "grown"]) == 1
    assert ask(["one", "two"], question="How many are blue?") == 1


def test_messages_that_were_seen_pay_for_their_new_answers_alone() -> None:
    kept = TokenCache(ROOMY)
    prompt = outcome_prompt(kept)

    def ask(talk: Sequence[Message], *candidates: str) -> int:
        return misses(kept, lambda: prompt.encode_group(talk, [], candidates, "parse", 1000))

    talk = [Message("system", "Be brief."), Message("user", "How many?")]
    assert ask(talk, "one", "two", "one") == 4
    assert ask(talk, "one", "two") == 0
    assert ask(talk, "two", "three") == 1
    talk += [Message("assistant", "three"), Message("user", "Sure?")]
    assert ask(talk, "Yes.") == 2
    talk.append(Message("assistant", "Yes."))
    assert misses(kept, lambda: prompt.encode_conversation(talk, [], "parse", 1000)) == 0


def test_a_memory_that_always_forgets_changes_no_score() -> None:
    said = ["2 + 2 = 4", "So it is four.\n\nHence 4.", "</s> it is", "x" * 40]
    kept = TokenCache(TINY)
    process, whole = [scorers(directory, kept) for directory in (TINY_VISUAL_PRM, TINY_IXC_REWARD)]
    for asked in "one", "two", "three", "one":
        candidates = [f"{asked}: {text}" for text in said]
        steps = ScoreStepsRequest(question=asked, candidates=candidates)
        talk = {"messages": [{"role": "user", "content": asked}], "candidates": candidates}
        outcomes = ScoreOutcomesRequest.model_validate(talk)
        for _ in range(2):
            assert process[1].score(steps).results == process[0].score(steps).results
            assert whole[1].score_outcomes(outcomes).results == whole[0].score_outcomes(outcomes).results
    assert kept.hits > 20 < kept.evictions
    assert kept.bytes <= TINY


def test_the_counts_are_metrics() -> None:
    kept, metrics = TokenCache(TINY), Metrics()
    metrics.watch_token_cache(kept)
    encoder = load_tokenizer(TINY_VISUAL_PRM, kept)
    for text in [*map(str, range(60)), "59"]:
        encoder.encode([Segment(text)])
    exposed = metrics.render().decode()
    assert "\nsteelyard_token_cache_hits_total 1.0\n" in exposed
    assert "\nsteelyard_token_cache_misses_total 60.0\n" in exposed
    assert f"\nsteelyard_token_cache_evictions_total {float(kept.evictions)}\n" in exposed
    assert f"\nsteelyard_token_cache_bytes {float(kept.bytes)}\n" in exposed
    assert kept.evictions > 0
