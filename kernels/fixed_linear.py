"""A linear map whose rows have the same bits however many they are."""

import torch
from torch.nn import functional

from kernels.dispatch import runs_kernel
from kernels.trial import Size, Trial, byte_count, draw


def fixed_linear_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (rows, in), `weight` (out, in), `bias` (out,) → (rows, out)."""
    return functional.linear(x, weight, bias)


def fixed_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`fixed_linear_reference` by tiles of one size and sums that are not split, where the device has a kernel for it.

    Elsewhere by torch, whose products have the property as `fused_linear` calls them on a processor.
    """
    if runs_kernel("fixed_linear", x):
        from kernels.triton.fixed_linear import fixed_linear as kernel

        return kernel(x, weight, bias)
    return fixed_linear_reference(x, weight, bias)


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    x = draw(size.rows, size.hidden, dtype=dtype, device=device)
    weight = draw(size.intermediate, size.hidden, dtype=dtype, device=device) * size.hidden**-0.5
    bias = draw(size.intermediate, dtype=dtype, device=device)
    least = byte_count(x, weight, bias) + size.rows * byte_count(bias)
    return Trial(lambda: (fixed_linear(x, weight, bias),), lambda: (fixed_linear_reference(x, weight, bias),), least)
