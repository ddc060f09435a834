"""A linear map with a low-rank term for some of the rows: partial LoRA, as XComposer2 adapts picture tokens."""

import torch
from torch.nn import functional

from kernels.fused_linear import WHOLE_ROWS, fused_linear, unpack


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
) -> torch.Tensor:
    """`partial_lora_reference` by whatever is fastest on x's device; the term costs nothing for the other rows.

    A row has the same bits however many others are adapted.
    """
    adapted = functional.pad(x.index_select(0, rows), (0, 0, 0, -len(rows) % WHOLE_ROWS))
    term = functional.linear(functional.linear(adapted, lora_a), lora_b)[: len(rows)]
    return fused_linear(x, weight, bias).index_add_(0, rows, term)
