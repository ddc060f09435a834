"""The gated activation between the two halves of a SwiGLU MLP."""

import torch
from torch.nn import functional

from kernels.dispatch import runs_kernel
from kernels.trial import Size, Trial, byte_count, draw


def swiglu_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, both (tokens, intermediate)."""
    return functional.silu(gate) * up


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`swiglu_reference` by whatever is fastest on gate's device."""
    if runs_kernel("swiglu", gate):
        from kernels.triton.swiglu import swiglu as kernel

        return kernel(gate, up)
    return swiglu_reference(gate, up)


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    gate, up = (draw(size.rows, size.intermediate, dtype=dtype, device=device, seed=seed) for seed in (0, 1))
    return Trial(lambda: (swiglu(gate, up),), lambda: (swiglu_reference(gate, up),), byte_count(gate, up, gate))
