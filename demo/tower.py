"""A vision tower and its projector learn color and shape first, through a head that is thrown away."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from demo.facts import COLORS, SHAPES, Facts
from demo.training import Plan, Weights, fit

Pixels = npt.NDArray[np.uint8]
# Pictures (count, size, size, 3) to the decoder's rows for them, (count, tokens, dim).
See = Callable[[Pixels], torch.Tensor]

_BATCH, _SHIFT = 64, 4
_HEAD = "thrown_away.weight"


def train_tower(
    weights: Weights,
    see: See,
    pixels: Pixels,
    facts: list[Facts],
    seed: int,
    state: Path,
    plan: Plan,
    stop: int | None = None,
) -> float:
    """Train `weights`, through which `see` looks, in place; returns the share of the pictures then told right.

    Every picture token has to tell color and shape by itself, so that the decoder may look at any of them.
    """
    targets = torch.tensor([[COLORS.index(f.color), SHAPES.index(f.shape)] for f in facts])
    dim = see(pixels[:1]).shape[-1]
    head = torch.zeros(len(COLORS) + len(SHAPES), dim).requires_grad_()

    def backward(step: int) -> float:
        random = np.random.default_rng((seed, step))
        chosen = random.choice(len(pixels), min(_BATCH, len(pixels)), replace=False)
        loss = _loss(see(_move(pixels[chosen], random)) @ head.T, targets[chosen])
        loss.backward()
        return loss.item()

    fit({**weights, _HEAD: head}, backward, plan, state, "tower", stop)
    return _told_right(see, head, pixels, targets)


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(count, tokens, labels) logits, (count, 2) targets of color and shape."""
    tokens = logits.shape[1]
    parts = logits.split([len(COLORS), len(SHAPES)], dim=-1)
    losses = [
        functional.cross_entropy(part.flatten(0, 1), target.repeat_interleave(tokens))
        for part, target in zip(parts, targets.T, strict=True)
    ]
    return losses[0] + losses[1]


def _move(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Flipped and shifted a little, each on its own; what comes in at a side repeats the edge."""
    size = pixels.shape[1]
    moved = []
    for picture in pixels:
        flipped = picture[:, ::-1] if random.random() < 0.5 else picture
        rows, columns = (np.clip(np.arange(size) + random.integers(-_SHIFT, _SHIFT + 1), 0, size - 1) for _ in "yx")
        moved.append(flipped[rows][:, columns])
    return np.stack(moved)


@torch.inference_mode()
def _told_right(see: See, head: torch.Tensor, pixels: Pixels, targets: torch.Tensor) -> float:
    logits = torch.cat([see(part) for part in np.array_split(pixels, max(1, len(pixels) // _BATCH))]) @ head.T
    color, shape = logits.mean(1).split([len(COLORS), len(SHAPES)], dim=-1)
    right = (color.argmax(-1) == targets[:, 0]) & (shape.argmax(-1) == targets[:, 1])
    return float(right.float().mean())
