"""Both families' tiny decoders with random weights and a head, and prompts for them by symbols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from models.candidate import Candidate, PlacedPicture
from models.decoder import Decoder, build_decoder, decoder_shapes, pack_decoder
from models.ixc_reward import spec as ixc_reward
from models.pausing import run_through
from models.readout import read_out_plain
from models.slot_pool import SlotPool
from models.spec import DecoderSpec
from models.token_tree import Keys, picture_keys, picture_rows
from models.tree_scorer import Prompt, TreeScorer
from models.visual_prm import spec as visual_prm
from tests.golden import TINY_IXC_REWARD, TINY_VISUAL_PRM
from tests.models.drawing import draw

Logits = npt.NDArray[np.float32]
PICTURE_ROWS = 5
PICTURES = 4
# Symbols for the pictures: each is a picture's rows. All other symbols are token ids.
FIRST, SECOND, THIRD, FOURTH = -1, -2, -3, -4


@dataclass(frozen=True, slots=True, eq=False)
class Small:
    """A decoder, its head (labels, dim) and some pictures' features by their number."""

    decoder: Decoder
    head: torch.Tensor
    features: Mapping[int, torch.Tensor]

    def scorer(self, cached_tokens: int, *, invariant: bool = False) -> TreeScorer:
        spec = self.decoder.spec
        token_bytes = SlotPool.token_bytes(spec, self.head.dtype)
        return TreeScorer(self.decoder, self.head, cached_tokens * token_bytes, invariant=invariant)


def small(spec: DecoderSpec, labels: int, dtype: torch.dtype = torch.float32, *, packed: bool = False) -> Small:
    generator = torch.Generator().manual_seed(5)
    tensors = {name: draw(shape, generator).to(dtype) for name, shape in decoder_shapes(spec).items()}
    if packed:
        pack_decoder(spec, tensors, "")
    decoder = build_decoder(spec, tensors, "")
    features = {number: torch.randn(PICTURE_ROWS, spec.hidden_size, generator=generator) for number in range(PICTURES)}
    head = draw((labels, spec.hidden_size), generator).to(dtype)
    return Small(decoder, head, {number: rows.to(dtype) for number, rows in features.items()})


@cache
def tiny(family: str, max_positions: int = 2048, dtype: torch.dtype = torch.float32) -> Small:
    """`steps` has two labels, `outcome` one and partial LoRA; both have dynamic NTK past `max_positions`."""
    steps, outcome = visual_prm.read_spec(TINY_VISUAL_PRM).decoder, ixc_reward.read_spec(TINY_IXC_REWARD).decoder
    spec, labels = (steps, 2) if family == "steps" else (outcome, 1)
    return small(replace(spec, rope=replace(spec.rope, max_positions=max_positions)), labels, dtype)


def prompt(symbols: Sequence[int], readouts: Sequence[int] | None = None) -> Prompt:
    """Token ids, and symbols of pictures. Read at its last position unless told."""
    runs = [picture_keys(-1 - one, PICTURE_ROWS) if one < 0 else np.array([one], np.int64) for one in symbols]
    keys = np.concatenate([np.empty(0, np.int64), *runs])
    return Prompt(keys, np.array([len(keys) - 1] if readouts is None else readouts, np.int32))


def candidate(model: Small, prompt: Prompt) -> Candidate:
    """The same for the plain path."""
    starts = np.flatnonzero(prompt.keys < 0)
    numbers, rows = picture_rows(prompt.keys[starts])
    places = zip(starts[rows == 0].tolist(), numbers[rows == 0].tolist(), strict=True)
    pictures = tuple(PlacedPicture(offset, model.features[number]) for offset, number in places)
    return Candidate(np.maximum(prompt.keys, 0).astype(np.int32), prompt.readouts, pictures)


@torch.inference_mode()
def plainly(model: Small, prompt: Prompt) -> Logits:
    found: Logits = read_out_plain(model.decoder, model.head, candidate(model, prompt)).numpy()
    return found


@torch.inference_mode()
def score(model: Small, scorer: TreeScorer, prompts: Sequence[Prompt]) -> tuple[list[Logits], list[int]]:
    """Logits and computed rows, by one forward with no more features than it asks for."""
    scoring = scorer.begin(prompts)
    return run_through(scoring.run({number: model.features[number] for number in scoring.pictures})), scoring.computed


def tokens(prompts: Sequence[Prompt]) -> set[tuple[int, ...]]:
    """Each token that a read-out of the prompts needs, by all keys up to its own."""
    found: set[tuple[int, ...]] = set()
    for one in prompts:
        keys: Keys = one.keys[: int(one.readouts.max(initial=-1)) + 1]
        found |= {tuple(keys[: end + 1].tolist()) for end in range(len(keys))}
    return found
