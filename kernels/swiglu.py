"""The gated activation between the two halves of a SwiGLU MLP."""

import torch
from torch.nn import functional


def swiglu_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, both (tokens, intermediate)."""
    return functional.silu(gate) * up


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`swiglu_reference` by whatever is fastest on gate's device."""
    return swiglu_reference(gate, up)
