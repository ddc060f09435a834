"""In batch-invariant mode a score has the same bits in any company, order and state of the cache."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.pausing import run_through
from models.spec import DecoderSpec, RopeSpec
from models.tree_scorer import Prompt, TreeScorer
from tests.models.small_decoders import FIRST, SECOND, Logits, Small, plainly, prompt, score, small, tiny

# Around the 16 rows of a product and the 128 keys of a span, and past a chunk's 256 rows and more.
LENGTHS = [1, 2, 15, 16, 17, 100, 127, 128, 129, 260, 700]
LIMIT = 500
WORDS = 400


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Many small operations beside another test process: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wide(
    dtype: torch.dtype, lora_rank: int = 0, *, hidden_size: int = 256, layers: int = 3, packed: bool = False
) -> Small:
    return small(
        DecoderSpec(
            vocab_size=WORDS,
            hidden_size=hidden_size,
            intermediate_size=4 * hidden_size,
            layers=layers,
            heads=hidden_size // 32,
            kv_heads=hidden_size // 64,
            rms_norm_eps=1e-5,
            bias=bool(lora_rank),
            tied_head=False,
            rope=RopeSpec(1e6, "dynamic", 2.0, LIMIT),
            lora_rank=lora_rank,
        ),
        2,
        dtype,
        packed=packed,
    )


MODELS: dict[str, Callable[[], Small]] = {
    "steps": lambda: tiny("steps", LIMIT),
    "steps-bfloat16": lambda: tiny("steps", LIMIT, torch.bfloat16),
    "outcome": lambda: tiny("outcome", LIMIT),
    "outcome-bfloat16": lambda: tiny("outcome", LIMIT, torch.bfloat16),
    "wide": lambda: wide(torch.float32),
    "wide-bfloat16": lambda: wide(torch.bfloat16),
    "wide-lora": lambda: wide(torch.float32, 16),
    "wide-lora-bfloat16": lambda: wide(torch.bfloat16, 16),
    # Sums so long that libraries cut them, in places that depend on the rows.
    "long-sums": lambda: wide(torch.float32, hidden_size=1024, layers=2, packed=True),
    "long-sums-bfloat16": lambda: wide(torch.bfloat16, hidden_size=1024, layers=2, packed=True),
    "long-sums-lora-bfloat16": lambda: wide(torch.bfloat16, 16, hidden_size=1024, layers=2),
}


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A prompt's symbols, and the logits that it has alone in a new scorer at some of its positions."""

    symbols: list[int]
    logits: dict[int, Logits]


def known_prompts(model: Small, rng: np.random.Generator) -> list[Known]:
    """Most begin alike, with pictures; one is past the model's positions, so that nothing of it is shared."""
    text = rng.integers(1, WORDS, max(LENGTHS)).tolist()
    text[3], text[90], text[200] = FIRST, SECOND, FIRST
    sequences = [[*text[:length], *rng.integers(1, WORDS, 3).tolist()][:length] for length in LENGTHS]
    sequences = [[*one[:-2], *rng.integers(1, WORDS, 2).tolist()] if len(one) > 14 else one for one in sequences]
    sequences.append(rng.integers(1, WORDS, 70).tolist())
    known = []
    for symbols in sequences:
        length = len(prompt(symbols).keys)
        readouts = sorted({length - 1, length // 2, max(0, length - 7), min(5, length - 1)})
        (logits,), _ = score(model, model.scorer(0, invariant=True), [prompt(symbols, readouts)])
        known.append(Known(symbols, dict(zip(readouts, logits, strict=True))))
    return known


def stranger(known: list[Known], rng: np.random.Generator) -> Prompt:
    """Begins as one of them does and goes on by itself."""
    begun = known[rng.integers(len(known))].symbols[: rng.integers(1, 150)]
    return prompt([*begun, *rng.integers(1, WORDS, rng.integers(1, 40)).tolist()])


def batch(known: list[Known], rng: np.random.Generator) -> list[tuple[Known | None, Prompt]]:
    """Some of them, read at some of their known positions, and strangers, in any order."""
    picked: list[tuple[Known | None, Prompt]] = []
    for index in rng.choice(len(known), rng.integers(1, 6)).tolist():
        one = known[index]
        readouts = rng.permutation(list(one.logits))[: rng.integers(1, 5)].tolist()
        picked.append((one, prompt(one.symbols, readouts)))
    picked += [(None, stranger(known, rng)) for _ in range(rng.integers(0, 3))]
    return [picked[place] for place in rng.permutation(len(picked)).tolist()]


def differing(picked: list[tuple[Known | None, Prompt]], logits: list[Logits]) -> list[str]:
    return [
        f"{len(one.keys)} tokens, read at {position}: off by {np.abs(row - known.logits[position]).max()}"
        for (known, one), rows in zip(picked, logits, strict=True)
        for position, row in zip(one.readouts.tolist(), rows, strict=True)
        if known is not None and not np.array_equal(row, known.logits[position])
    ]


def disturb(model: Small, scorer: TreeScorer, known: list[Known], rng: np.random.Generator) -> list[str]:
    """One batch, or two that take turns."""
    one, other = batch(known, rng), batch(known, rng)
    if rng.random() < 0.8:
        return differing(one, score(model, scorer, [prompt for _, prompt in one])[0])
    with torch.inference_mode():
        paused = scorer.begin([prompt for _, prompt in one]).run(model.features)
        for _ in range(3):
            next(paused)
        found = differing(other, score(model, scorer, [prompt for _, prompt in other])[0])
        return [*found, *differing(one, run_through(paused))]


@pytest.mark.parametrize("states", [25, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODELS)
def test_bits_depend_on_nothing_but_the_prompt(name: str, states: int) -> None:
    rng = np.random.default_rng(states)
    model = MODELS[name]()
    known = known_prompts(model, rng)
    scorer, found = model.scorer(0, invariant=True), []
    for state in range(states):
        if rng.random() < 0.3:
            scorer = model.scorer(int(rng.choice([0, 7, 50, 300, 900, 10_000])), invariant=True)
        found += [f"state {state}: {line}" for line in disturb(model, scorer, known, rng)]
    assert found == []


@pytest.mark.parametrize("name", ["steps", "outcome", "wide", "wide-lora"])
def test_the_mode_has_the_plain_networks_scores(name: str) -> None:
    model = MODELS[name]()
    for known in known_prompts(model, np.random.default_rng(0)):
        rows = plainly(model, prompt(known.symbols, list(known.logits)))
        np.testing.assert_allclose(np.stack(list(known.logits.values())), rows, atol=1e-5, rtol=1e-5)
