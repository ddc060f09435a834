"""Random weights on which activations stay near 1."""

import math

import torch


def draw(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Norms and biases around 1, matrices scaled by their inputs."""
    noise = torch.randn(shape, generator=generator)
    return 1 + 0.3 * noise if len(shape) == 1 else noise / math.sqrt(math.prod(shape[1:]))
