"""A linear map with a low-rank term for some of the rows: partial LoRA, as XComposer2 adapts picture tokens."""

import torch
from torch.nn import functional

from kernels.dispatch import runs_kernel
from kernels.fused_linear import WHOLE_ROWS, fused_linear, unpack
from kernels.trial import Size, Trial, byte_count, draw


def partial_lora_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    """x (tokens, in) → (tokens, out): W x + b for every row, and B A x on top for the int64 `rows` (adapted,).

    `weight` (out, in), packed or not, `lora_a` (rank, in), `lora_b` (out, rank); unscaled (arXiv:2401.16420, whose
    alpha is its rank). Computes the term for all rows and masks it.
    """
    mask = torch.zeros(len(x), 1, dtype=x.dtype, device=x.device).index_fill(0, rows, 1)
    return functional.linear(x, unpack(weight), bias) + mask * functional.linear(functional.linear(x, lora_a), lora_b)


def partial_lora(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    rows: torch.Tensor,
    *,
    fixed: bool = False,
) -> torch.Tensor:
    """`partial_lora_reference` by whatever is fastest on x's device; the term costs nothing for the other rows.

    `fixed` is `fused_linear`'s: a row then has the same bits however many others are adapted, too.
    """
    y = fused_linear(x, weight, bias, fixed=fixed)
    add_low_rank(y, x, lora_a, lora_b, rows, fixed=fixed)
    return y


def add_low_rank(
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a: torch.Tensor,
    lora_b: torch.Tensor,
    rows: torch.Tensor,
    *,
    fixed: bool = False,
) -> None:
    """Add B A x to the distinct `rows` of y (tokens, out), in place."""
    if runs_kernel("partial_lora", x):
        from kernels.triton.partial_lora import add_low_rank as kernel

        kernel(y, x, lora_a, lora_b, rows)
        return
    adapted = functional.pad(x.index_select(0, rows), (0, 0, 0, -len(rows) % WHOLE_ROWS))
    low_rank = fused_linear(fused_linear(adapted, lora_a, fixed=fixed), lora_b, fixed=fixed)
    y.index_add_(0, rows, low_rank[: len(rows)])


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    """Of the term alone, whose time and bytes the plain product would hide."""
    x, plain = (draw(size.rows, size.hidden, dtype=dtype, device=device, seed=seed) / 4 for seed in (0, 1))
    a = draw(size.rank, size.hidden, dtype=dtype, device=device) * size.hidden**-0.5
    b = draw(size.hidden, size.rank, dtype=dtype, device=device) * size.rank**-0.5
    first = (size.rows - size.adapted) // 2
    rows = torch.arange(first, first + size.adapted, device=device)

    def ours() -> tuple[torch.Tensor]:
        y = plain.clone()
        add_low_rank(y, x, a, b, rows)
        return (y,)

    def reference() -> tuple[torch.Tensor]:
        mask = torch.zeros(size.rows, 1, dtype=dtype, device=device).index_fill(0, rows, 1)
        return (plain + mask * functional.linear(functional.linear(x, a), b),)

    picked = x[: size.adapted]
    return Trial(ours, reference, byte_count(picked, picked, picked, a, b, rows))
