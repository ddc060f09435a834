"""Cosines and sines of rotary positions, for each sequence on its own."""

from collections.abc import Sequence

import torch

from models.spec import RopeSpec


def rope_base(rope: RopeSpec, head_dim: int, length: int) -> float:
    """The rotary base of a sequence of `length` tokens; dynamic NTK raises it past `max_positions`.

    The reference keeps the base of the longest sequence that its process has seen; here each sequence has its
    own, which is what the reference gives in a fresh process.
    """
    if rope.scaling != "dynamic" or length <= rope.max_positions:
        return rope.theta
    growth = rope.factor * length / rope.max_positions - (rope.factor - 1)
    return rope.theta * float(growth ** (head_dim / (head_dim - 2)))


def rope_tables(
    rope: RopeSpec, head_dim: int, lengths: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each (sum of lengths, head_dim / 2) float32, of sequences packed end to end."""
    angles = torch.cat([_angles(rope, head_dim, length, device) for length in lengths])
    return angles.cos(), angles.sin()


def _angles(rope: RopeSpec, head_dim: int, length: int, device: torch.device) -> torch.Tensor:
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = 1.0 / rope_base(rope, head_dim, length) ** exponents
    positions = torch.arange(length, dtype=torch.float32, device=device)
    if rope.scaling == "linear":
        positions = positions / rope.factor
    return torch.outer(positions, frequencies)
