"""Cosines and sines of rotary positions, for each sequence on its own."""

import torch

from models.spec import RopeSpec


def rope_base(rope: RopeSpec, head_dim: int, length: int) -> float:
    """The rotary base of a sequence of `length` tokens; dynamic NTK raises it past `max_positions`.

    The reference keeps the base of the longest sequence that its process has seen; here each sequence has its
    own, which is what the reference gives in a fresh process.
    """
    if not is_stretched(rope, length):
        return rope.theta
    growth = rope.factor * length / rope.max_positions - (rope.factor - 1)
    return rope.theta * float(growth ** (head_dim / (head_dim - 2)))


def rope_tables(
    rope: RopeSpec, head_dim: int, positions: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each (tokens, head_dim / 2) float32, of positions (tokens,) in a sequence of `length`."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    frequencies = 1.0 / rope_base(rope, head_dim, length) ** exponents
    scaled = positions.float() / rope.factor if rope.scaling == "linear" else positions.float()
    angles = torch.outer(scaled, frequencies)
    return angles.cos(), angles.sin()


def is_stretched(rope: RopeSpec, length: int) -> bool:
    """Whether a sequence of `length` has a base of its own, so that its keys are no other sequence's."""
    return rope.longest_shared is not None and length > rope.longest_shared
