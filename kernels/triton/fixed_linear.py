"""A linear map by tiles of one size, whatever the number of rows: a row's bits do not depend on the others."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.triton.forms import INTERPRETED, TYPE_NAMES, Configuration, Form, power_of_two
from kernels.triton.product import tile_product

# Tiles of rows whose programs run side by side, so that they find each other's weights in the GPU's cache.
_TOGETHER = 8


@triton.jit
def _fixed_linear(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    output: tl.tensor,
    rows: tl.tensor,
    outputs: tl.tensor,
    inner: tl.tensor,
    HAS_BIAS: tl.constexpr,
    TOGETHER: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    across, down = tl.cdiv(outputs, N), tl.cdiv(rows, M)
    band = tl.program_id(0) // (TOGETHER * across)
    height = tl.minimum(down - band * TOGETHER, TOGETHER)
    within = tl.program_id(0) % (TOGETHER * across)
    row = (band * TOGETHER + within % height).to(tl.int64) * M + tl.arange(0, M)
    column = (within // height).to(tl.int64) * N + tl.arange(0, N)
    is_row, is_column = row < rows, column < outputs
    total = tile_product(x, row, is_row, weight, column, is_column, inner, M, N, K, WIDE)
    if HAS_BIAS:
        total += tl.load(bias + column, is_column, other=0.0).to(tl.float32)[None, :]
    inside = is_row[:, None] & is_column[None, :]
    tl.store(output + row[:, None] * outputs + column[None, :], total.to(output.dtype.element_ty), inside)


def fixed_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x (rows, in), `weight` (out, in), `bias` (out,) → (rows, out)."""
    x, weight = x.contiguous(), weight.contiguous()
    (rows, inner), outputs = x.shape, len(weight)
    output = x.new_empty(rows, outputs)
    form = _form(x.dtype, outputs, inner, has_bias=bias is not None)
    tiles = triton.cdiv(rows, form.constants["M"]) * triton.cdiv(outputs, form.constants["N"])
    if tiles:
        added = x if bias is None else bias
        _fixed_linear[(tiles,)](x, weight, added, output, rows, outputs, inner, **form.launch)
    return output


def _form(dtype: torch.dtype, outputs: int, inner: int, *, has_bias: bool) -> Form:
    """By the weight's shape and the type alone."""
    # Float32 without TensorFloat-32 has no matrix units.
    m, n, k = (64, 64, 32) if dtype == torch.float32 else (128, 128, 64)
    constants: dict[str, int | bool | float | str] = {
        "HAS_BIAS": has_bias,
        "TOGETHER": _TOGETHER,
        "M": m,
        "N": min(n, power_of_two(outputs)),
        "K": min(k, power_of_two(inner)),
        "WIDE": dtype == torch.float32 or INTERPRETED,
    }
    return Form(constants, warps=8, stages=3)


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        types = dict.fromkeys(("x", "weight", "bias", "output"), f"*{name}:16")
        types |= {"rows": "i32", "outputs": "i32:16", "inner": "i32:16"}
        for outputs, inner in ((96, 224), (4096, 4096)):
            for has_bias in (False, True):
                shape = f"{outputs} × {inner}{', with a bias' if has_bias else ''}"
                label = f"{str(dtype).removeprefix('torch.')}, {shape}"
                form = _form(dtype, outputs, inner, has_bias=has_bias)
                yield Configuration(_fixed_linear, label, types, form)
