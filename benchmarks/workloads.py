"""The engine benchmark's decoder, as random weights in memory, and its workloads, as candidates to score.

Everything is made from a seed. Weights and ids mean nothing, so only times and agreement can be read off them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch

from models.candidate import Candidate, Ids, PlacedPicture
from models.decoder import Decoder, build_decoder, decoder_shapes, pack_decoder
from models.encoded import common_prefix
from models.readout import prompts_of
from models.spec import DecoderSpec, RopeSpec

# What these ids stand for in any vocabulary; text is drawn from the ids that follow.
CONTEXT, PLUS, MINUS, STEP_END = range(4)
_FIRST_TEXT = STEP_END + 1
_CPU = torch.device("cpu")

# VisualPRM's layout, 441 M parameters with the head.
FULL = DecoderSpec(
    vocab_size=92553,
    hidden_size=1024,
    intermediate_size=4096,
    layers=16,
    heads=16,
    kv_heads=8,
    rms_norm_eps=1e-5,
    bias=False,
    tied_head=False,
    rope=RopeSpec(theta=1e6, scaling="dynamic", factor=2.0, max_positions=32768),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder and its head: `head` (vocabulary, dim), `labels` (2, dim) its rows of `+` and `-`.

    `packed` is the same decoder as the engine loads it.
    """

    decoder: Decoder
    packed: Decoder
    head: torch.Tensor
    labels: torch.Tensor


def random_model(
    spec: DecoderSpec = FULL, dtype: torch.dtype = torch.bfloat16, seed: int = 0, device: torch.device = _CPU
) -> Model:
    """Weights at `random_checkpoint`'s scale; a seed gives the same numbers in any dtype, rounded to it."""
    generator = torch.Generator().manual_seed(seed)
    shapes = decoder_shapes(spec) | {"head": (spec.vocab_size, spec.hidden_size)}
    tensors = {name: draw_weights(shape, dtype, generator).to(device) for name, shape in shapes.items()}
    head = tensors["head"]
    decoder = build_decoder(spec, tensors, "")
    pack_decoder(spec, tensors, "")
    return Model(decoder, build_decoder(spec, tensors, ""), head, head[[PLUS, MINUS]])


def draw_weights(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """A norm near 1, or a matrix that keeps its input's scale."""
    noise: torch.Tensor = torch.randn(shape, generator=generator)
    scaled = noise.mul_(0.05).add_(1.0) if len(shape) == 1 else noise.mul_(shape[1] ** -0.5)
    return scaled.to(dtype)


@dataclass(frozen=True, slots=True)
class Shape:
    """Groups of candidates, each as many tokens as here; `growing`: every candidate after each of its steps.

    A prompt is `opening` tokens, which all groups share, a picture, `question` tokens, and the steps.
    """

    candidates: int = 8
    steps: int = 8
    step_tokens: int = 40
    opening: int = 50
    picture: int = 1024
    question: int = 50
    groups: int = 1
    growing: bool = False


# The workloads; W2 is W1 with its prefix cached.
SHAPES = {
    "W1": Shape(),
    "W3": Shape(candidates=1, growing=True),
    "W4": Shape(groups=32),
    "W5": Shape(candidates=64),
    "W6": Shape(candidates=16, steps=10, step_tokens=50, picture=13 * 256),
}


@dataclass(frozen=True)
class Workload:
    """Groups of candidates in the order in which they come."""

    name: str
    groups: tuple[tuple[Candidate, ...], ...]

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for group in self.groups for candidate in group]

    @property
    def naive_tokens(self) -> int:
        """Tokens when every candidate is computed on its own."""
        return sum(len(candidate.ids) for candidate in self.candidates)

    @property
    def call_tokens(self) -> int:
        """Tokens when every step is computed on its own, from the prompt's start."""
        return sum(int(candidate.readouts.sum()) + len(candidate.readouts) for candidate in self.candidates)

    @cached_property
    def tree_tokens(self) -> int:
        """Tokens when nothing is computed twice, over all groups."""
        prompts, _ = prompts_of(self.candidates)
        paths = sorted((prompt.keys for prompt in prompts), key=lambda path: path.tolist())
        return sum(map(len, paths)) - sum(map(common_prefix, pairwise(paths)))


def build_workload(
    name: str, shape: Shape, spec: DecoderSpec, dtype: torch.dtype, seed: int = 0, device: torch.device = _CPU
) -> Workload:
    """Candidates of a shape for a decoder; no two begin alike after what their group shares."""
    numbers = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    opening = _text(numbers, spec, shape.opening)
    groups: list[tuple[Candidate, ...]] = []
    for _ in range(shape.groups):
        drawn = torch.randn(shape.picture, spec.hidden_size, generator=generator)
        pictures = (PlacedPicture(shape.opening, drawn.mul_(spec.hidden_size**-0.5).to(device, dtype)),)
        question = _text(numbers, spec, shape.question)
        prefix = np.concatenate([opening, np.full(shape.picture, CONTEXT, np.int32), question])
        text_ids = np.arange(_FIRST_TEXT, spec.vocab_size, dtype=np.int32)
        firsts = numbers.choice(text_ids, shape.candidates, replace=False)
        group = [_candidate(numbers, spec, shape, prefix, pictures, int(first)) for first in firsts]
        groups += [(grown,) for one in group for grown in after_each_step(one)] if shape.growing else [tuple(group)]
    return Workload(name, tuple(groups))


def after_each_step(candidate: Candidate) -> Iterator[Candidate]:
    """The trajectory as it stood at each of its read-outs."""
    for index in range(len(candidate.readouts)):
        end = int(candidate.readouts[index]) + 1
        yield Candidate(candidate.ids[:end], candidate.readouts[: index + 1], candidate.pictures)


def _candidate(
    numbers: np.random.Generator,
    spec: DecoderSpec,
    shape: Shape,
    prefix: Ids,
    pictures: tuple[PlacedPicture, ...],
    first: int,
) -> Candidate:
    """Steps whose last token is the one before the `+`; the `+` begins the next step, and none follows the last."""
    steps = _text(numbers, spec, shape.steps * shape.step_tokens).reshape(shape.steps, shape.step_tokens)
    steps[1:, 0] = PLUS
    steps[0, 0] = first
    steps[:, -1] = STEP_END
    readouts = len(prefix) + shape.step_tokens * np.arange(1, shape.steps + 1, dtype=np.int32) - 1
    return Candidate(np.concatenate([prefix, steps.ravel()]), readouts.astype(np.int32), pictures)


def _text(numbers: np.random.Generator, spec: DecoderSpec, length: int) -> Ids:
    return numbers.integers(_FIRST_TEXT, spec.vocab_size, length, np.int32)
