"""Prompts through the packed forward and its prefix cache, against the plain network."""

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tree_scorer
from models.decoder import Decoder
from models.forward import Work, decode
from models.pausing import run_through
from models.slot_pool import SlotPool
from models.tree_scorer import Prompt, Scoring, TreeScorer
from tests.models.small_decoders import (
    FIRST,
    FOURTH,
    PICTURE_ROWS,
    SECOND,
    Logits,
    Small,
    plainly,
    prompt,
    score,
    tiny,
    tokens,
)

FAMILIES = ["steps", "outcome"]
LIMIT = 24
PLENTY = 10_000
QUESTION = (1, FIRST, 7, 8, 9)
GROUP = [
    prompt((*QUESTION, 20, 21, 22), [9, 11]),
    prompt((*QUESTION, 20, 31), [9, 10]),
    prompt((*QUESTION, 40)),
    prompt((1, SECOND, 7, 8, 9, 20), [2, 9, 2]),
    prompt(QUESTION),
    prompt((*QUESTION, 20, 21, 22, *range(50, 50 + LIMIT)), [9, 33]),
    prompt((5,), []),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Many small operations beside another test process: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Small:
    return tiny(request.param, LIMIT)


def is_stretched(one: Prompt) -> bool:
    return len(one.keys) > LIMIT


def shared(prompts: Sequence[Prompt]) -> list[Prompt]:
    return [one for one in prompts if not is_stretched(one)]


def alone(prompts: Sequence[Prompt]) -> int:
    """The rows of those that share nothing."""
    return sum(int(one.readouts.max(initial=-1)) + 1 for one in prompts if is_stretched(one))


def assert_plain(model: Small, prompts: Sequence[Prompt], found: Sequence[Logits]) -> None:
    for one, logits in zip(prompts, found, strict=True):
        assert logits.shape == (len(one.readouts), len(model.head))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, plainly(model, one), atol=1e-5, rtol=1e-5)


def assert_all_slots_come_back(scorer: TreeScorer, held: int) -> None:
    """Nothing is in hand and nothing pinned: everything can be allocated, what is held by being evicted."""
    counts = scorer.counts
    assert counts.held == held
    slots = scorer.cache.allocate(counts.capacity)
    assert sorted(slots.tolist()) == list(range(counts.capacity))
    assert scorer.counts.held == 0
    scorer.cache.free(slots)


def test_a_cold_cache_gives_the_plain_networks_scores(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    logits, computed = score(model, scorer, GROUP)
    assert_plain(model, GROUP, logits)
    assert sum(computed) == len(tokens(shared(GROUP))) + alone(GROUP)
    assert scorer.counts.held == len(tokens(shared(GROUP)))


def test_a_warm_cache_gives_the_same_numbers_and_computes_nothing(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    cold, _ = score(model, scorer, shared(GROUP))
    scoring = scorer.begin(shared(GROUP))
    assert (scoring.computed, scoring.pictures) == ([0] * len(cold), [])
    for first, again in zip(cold, run_through(scoring.run({})), strict=True):
        np.testing.assert_array_equal(again, first)


def test_a_prompt_past_the_models_positions_is_computed_each_time(model: Small) -> None:
    stretched = [one for one in GROUP if is_stretched(one)]
    scorer = model.scorer(PLENTY)
    for _ in range(2):
        logits, computed = score(model, scorer, [*stretched, *stretched])
        assert computed == [alone(stretched)] * 2
        assert_plain(model, [*stretched, *stretched], logits)
    assert scorer.counts.held == 0


def test_whether_it_is_past_them_is_said_by_its_length_not_by_its_last_read_out(model: Small) -> None:
    one = prompt(range(100, 100 + LIMIT + 1), [2])
    scorer = model.scorer(PLENTY)
    logits, computed = score(model, scorer, [one])
    assert (computed, scorer.counts.held) == ([3], 0)
    assert_plain(model, [one], logits)


def test_a_grown_trajectory_computes_its_new_tokens_up_to_the_last_read_out(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    trajectory = [1, FIRST, *range(50, 65)]
    done = 0
    for last in (7, 8, 12, 17):
        # The tokens after the last read-out are there and are not computed; they may change.
        one = prompt([*trajectory, 90 + last], list(range(6, last + 1)))
        logits, computed = score(model, scorer, [one])
        assert computed == [last + 1 - done]
        assert_plain(model, [one], logits)
        done = last + 1
    assert scorer.counts.held == done


def test_a_read_out_that_is_not_known_costs_one_row(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    score(model, scorer, [prompt(QUESTION)])
    # The second position is the picture's second row: its features are wanted once more.
    for readouts, cost in (([8], 0), ([8, 4], 1), ([4, 2, 4], 1), ([2, 4, 8], 0)):
        one = prompt(QUESTION, readouts)
        logits, computed = score(model, scorer, [one, one])
        assert computed == [cost, 0]
        assert_plain(model, [one, one], logits)


def test_pictures_are_wanted_for_the_rows_to_compute_alone(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    first, second = prompt((1, FIRST, 5)), prompt((1, FIRST, SECOND, 5))
    assert scorer.begin([first, second]).pictures == [0, 1]
    scorer = model.scorer(PLENTY)
    score(model, scorer, [first])
    assert scorer.begin([first, second]).pictures == [1]
    # One row of the first picture is read that was not.
    assert scorer.begin([prompt((1, FIRST, 5), [3])]).pictures == [0]


@pytest.mark.parametrize("capacity", [0, 1, 3, 9, 13])
def test_a_cache_that_thrashes_changes_no_score(model: Small, capacity: int) -> None:
    scorer = model.scorer(capacity)
    for round_ in range(3):
        for start in range(len(GROUP)):
            prompts = [*GROUP[start:], *GROUP[:start]][: 1 + round_]
            logits, _ = score(model, scorer, prompts)
            assert_plain(model, prompts, logits)
            assert scorer.counts.held <= capacity
    assert_all_slots_come_back(scorer, scorer.counts.held)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each forward."""
    rows: list[int] = []

    def counting(
        decoder: Decoder, x: torch.Tensor, pool: SlotPool, work: Work, *, invariant: bool
    ) -> Generator[None, None, torch.Tensor]:
        rows.append(len(x))
        return decode(decoder, x, pool, work, invariant=invariant)

    monkeypatch.setattr(tree_scorer, "decode", counting)
    return rows


@pytest.mark.parametrize("capacity", [0, 5, PLENTY])
def test_computed_rows_are_those_that_the_forward_saw(model: Small, capacity: int, seen: list[int]) -> None:
    scorer = model.scorer(capacity)
    for prompts in (GROUP[:2], GROUP, GROUP, [GROUP[5]], GROUP[3:5]):
        seen.clear()
        _, computed = score(model, scorer, prompts)
        assert sum(computed) == sum(seen)
        assert len(seen) == bool(sum(computed))


SYMBOLS = st.sampled_from([3, 4, FIRST, FOURTH])


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    symbols = draw(st.lists(SYMBOLS, min_size=1, max_size=8))
    length = sum(PICTURE_ROWS if symbol < 0 else 1 for symbol in symbols)
    return prompt(symbols, draw(st.lists(st.integers(0, length - 1), max_size=3)))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 60), st.lists(st.lists(prompts(), max_size=4), min_size=1, max_size=5))
def test_no_history_of_calls_changes_a_score(family: str, capacity: int, calls: list[list[Prompt]]) -> None:
    model = tiny(family, LIMIT)
    scorer = model.scorer(capacity)
    for batch in calls:
        logits, computed = score(model, scorer, batch)
        assert_plain(model, batch, logits)
        assert sum(computed) <= len(tokens(shared(batch))) + alone(batch)
    assert_all_slots_come_back(scorer, scorer.counts.held)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(prompts(), max_size=4), min_size=1, max_size=5))
def test_with_room_enough_nothing_is_computed_twice(calls: list[list[Prompt]]) -> None:
    model = tiny("steps", LIMIT)
    scorer = model.scorer(PLENTY)
    held: set[tuple[int, ...]] = set()
    read: set[tuple[int, ...]] = set()
    for batch in calls:
        _, computed = score(model, scorer, batch)
        places = {tuple(one.keys[: at + 1].tolist()) for one in shared(batch) for at in one.readouts.tolist()}
        again = (places & held) - read
        assert sum(computed) == len(tokens(shared(batch)) - held) + len(again) + alone(batch)
        held, read = held | tokens(shared(batch)), read | places
        assert scorer.counts.held == len(held)


class Paused:
    """A scoring that is run piece by piece."""

    def __init__(self, model: Small, scorer: TreeScorer, batch: Sequence[Prompt]) -> None:
        self.scoring: Scoring = scorer.begin(batch)
        self._pieces = self.scoring.run({number: model.features[number] for number in self.scoring.pictures})

    def run(self, pieces: int) -> None:
        for _ in range(pieces):
            next(self._pieces)

    def finish(self) -> list[Logits]:
        return run_through(self._pieces)

    def abandon(self) -> None:
        self._pieces.close()


def pieces_of(model: Small, batch: Sequence[Prompt]) -> int:
    scoring = model.scorer(0).begin(batch)
    return sum(1 for _ in scoring.run(model.features))


@pytest.mark.parametrize("capacity", [0, 4, 16, PLENTY])
@pytest.mark.parametrize("warm", [False, True])
@torch.inference_mode()
def test_a_scoring_that_pauses_for_another_has_the_right_numbers(model: Small, warm: bool, capacity: int) -> None:
    one, other = GROUP[:2], [GROUP[1], GROUP[2], prompt((*QUESTION, 20, 21, 22, 60, 61))]
    for first, second in ((one, other), (other, one), (one, one)):
        pieces = pieces_of(model, first)
        assert pieces > 3
        for pause in range(0, pieces + 1, 4):
            scorer = model.scorer(capacity)
            if warm:
                score(model, scorer, [prompt(QUESTION)])
            long, short = Paused(model, scorer, first), Paused(model, scorer, second)
            long.run(min(pause, 3) if warm else pause)
            assert_plain(model, second, short.finish())
            assert_plain(model, first, long.finish())
            for batch in (first, second):
                assert_plain(model, batch, score(model, scorer, batch)[0])
            assert_all_slots_come_back(scorer, scorer.counts.held)


@torch.inference_mode()
def test_two_that_computed_the_same_at_once_leave_one_of_it(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    both = [Paused(model, scorer, GROUP), Paused(model, scorer, GROUP)]
    for paused in both:
        paused.run(2)
    for paused in both:
        assert_plain(model, GROUP, paused.finish())
    assert_all_slots_come_back(scorer, len(tokens(shared(GROUP))))


@pytest.mark.parametrize("capacity", [0, 16, PLENTY])
def test_a_scoring_that_is_closed_leaves_the_cache_as_it_was(model: Small, capacity: int) -> None:
    scorer = model.scorer(capacity)
    score(model, scorer, [prompt((1, FIRST))])
    held = scorer.counts.held
    scoring = scorer.begin([prompt((1, FIRST, 5))])
    scoring.close()
    scoring.close()
    assert scorer.counts.held == held
    assert_all_slots_come_back(scorer, held)


@torch.inference_mode()
def test_so_does_one_that_is_abandoned_half_way(model: Small) -> None:
    for pieces in range(pieces_of(model, GROUP[1:3])):
        scorer = model.scorer(PLENTY)
        score(model, scorer, GROUP[:1])
        held = scorer.counts.held
        paused = Paused(model, scorer, GROUP[1:3])
        paused.run(min(pieces, 3))
        paused.abandon()
        # A generator that never began has no end to run through.
        paused.scoring.close()
        logits, computed = score(model, scorer, GROUP[:1])
        assert computed == [0]
        assert_plain(model, GROUP[:1], logits)
        assert_all_slots_come_back(scorer, held)


@pytest.mark.parametrize("piece", [0, 1, 4])
def test_so_does_one_that_raises(model: Small, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = model.scorer(PLENTY)
    score(model, scorer, GROUP[:1])
    held = scorer.counts.held

    def failing(
        decoder: Decoder, x: torch.Tensor, pool: SlotPool, work: Work, *, invariant: bool
    ) -> Generator[None, None, torch.Tensor]:
        pieces = decode(decoder, x, pool, work, invariant=invariant)
        for _ in range(piece):
            yield next(pieces)
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(tree_scorer, "decode", failing)
        with pytest.raises(RuntimeError, match="broken"):
            score(model, scorer, GROUP)
    assert scorer.counts.held == held
    logits, _ = score(model, scorer, GROUP)
    assert_plain(model, GROUP, logits)
    assert_all_slots_come_back(scorer, len(tokens(shared(GROUP))))


def test_a_picture_that_is_missing_raises_and_leaves_the_cache_as_it_was(model: Small) -> None:
    scorer = model.scorer(PLENTY)
    scoring = scorer.begin([prompt(QUESTION)])
    with pytest.raises(KeyError):
        run_through(scoring.run({}))
    assert_all_slots_come_back(scorer, 0)


def test_no_prompts_have_no_logits(model: Small) -> None:
    assert score(model, model.scorer(PLENTY), []) == ([], [])


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_long_prompt_in_many_chunks_scores_as_the_plain_network(family: str) -> None:
    """Past a chunk's rows, with pictures in several chunks."""
    model = tiny(family)
    rng = np.random.default_rng(0)
    text = rng.integers(1, 1000, 2000).tolist()
    grown = [prompt([*text[:900], FIRST, *text[900:length], SECOND, 7]) for length in (1200, 1900)]
    scorer = model.scorer(PLENTY)
    for batch in (grown[:1], grown, [prompt([*text[:900], FIRST, *text[900:1500]], [100, 903, 1400])]):
        assert_plain(model, batch, score(model, scorer, batch)[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_not_kept(model: Small, value: float) -> None:
    """Hidden keys weigh nothing, but nothing times such a number is no number: it reaches others in its block."""
    good, evil = prompt((1, 7, 8, 9, 20)), prompt((1, 7, 8, 9, SECOND, 21))
    broken = {number: torch.full_like(rows, value) for number, rows in model.features.items()}
    scorer = model.scorer(PLENTY)
    run_through(scorer.begin([good, evil]).run(broken))
    assert scorer.counts.held == 0
    assert_plain(model, [good], score(model, scorer, [good])[0])
