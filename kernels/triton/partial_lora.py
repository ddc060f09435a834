"""The low-rank term of some rows, added where they lie; the other rows are neither read nor written."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.triton.forms import INTERPRETED, TYPE_NAMES, Configuration, Form, power_of_two
from kernels.triton.product import tile_product


@triton.jit
def _narrow(
    x: tl.tensor,
    places: tl.tensor,
    a: tl.tensor,
    middle: tl.tensor,
    adapted: tl.tensor,
    rank: tl.tensor,
    inner: tl.tensor,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    column = tl.program_id(1).to(tl.int64) * N + tl.arange(0, N)
    is_row, is_column = row < adapted, column < rank
    place = tl.load(places + row, is_row, other=0)
    total = tile_product(x, place, is_row, a, column, is_column, inner, M, N, K, WIDE)
    inside = is_row[:, None] & is_column[None, :]
    tl.store(middle + row[:, None] * rank + column[None, :], total.to(middle.dtype.element_ty), inside)


@triton.jit
def _widen(
    middle: tl.tensor,
    places: tl.tensor,
    b: tl.tensor,
    y: tl.tensor,
    adapted: tl.tensor,
    outputs: tl.tensor,
    rank: tl.tensor,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    column = tl.program_id(1).to(tl.int64) * N + tl.arange(0, N)
    is_row, is_column = row < adapted, column < outputs
    total = tile_product(middle, row, is_row, b, column, is_column, rank, M, N, K, WIDE)
    inside = is_row[:, None] & is_column[None, :]
    place = tl.load(places + row, is_row, other=0)
    target = y + place[:, None] * outputs + column[None, :]
    # Rounded before it is added, as the reference's product is.
    term = total.to(y.dtype.element_ty).to(tl.float32)
    plain = tl.load(target, inside, other=0.0).to(tl.float32)
    tl.store(target, (plain + term).to(y.dtype.element_ty), inside)


def add_low_rank(y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rows: torch.Tensor) -> None:
    """Add B A x to the distinct `rows` (adapted,) int64 of y (tokens, out); x (tokens, in), both contiguous."""
    assert y.is_contiguous()
    x, a, b, rows = x.contiguous(), a.contiguous(), b.contiguous(), rows.contiguous()
    adapted, (rank, inner), outputs = len(rows), a.shape, len(b)
    if not adapted:
        return
    middle = x.new_empty(adapted, rank)
    narrow, widen = _form(x.dtype, rank, inner), _form(x.dtype, outputs, rank)
    _narrow[_grid(narrow, adapted, rank)](x, rows, a, middle, adapted, rank, inner, **narrow.launch)
    _widen[_grid(widen, adapted, outputs)](middle, rows, b, y, adapted, outputs, rank, **widen.launch)


def _grid(form: Form, rows: int, outputs: int) -> tuple[int, int]:
    return triton.cdiv(rows, form.constants["M"]), triton.cdiv(outputs, form.constants["N"])


def _form(dtype: torch.dtype, outputs: int, inner: int) -> Form:
    k = 32 if dtype == torch.float32 else 64
    constants: dict[str, int | bool | float | str] = {
        "M": 64,
        "N": min(64, power_of_two(outputs)),
        "K": min(k, power_of_two(inner)),
        "WIDE": dtype == torch.float32 or INTERPRETED,
    }
    return Form(constants, warps=4 if dtype != torch.float32 else 8, stages=3)


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        pointers = ("x", "a", "middle"), ("middle", "b", "y")
        for rank, width in ((8, 96), (256, 4096)):
            sizes = {"adapted": "i32", "rank": "i32:16" if rank % 16 == 0 else "i32"}
            for kernel, tensors, other in ((_narrow, pointers[0], "inner"), (_widen, pointers[1], "outputs")):
                types = dict.fromkeys(tensors, f"*{name}:16") | {"places": "*i64:16"} | sizes | {other: "i32:16"}
                form = _form(dtype, *((rank, width) if kernel is _narrow else (width, rank)))
                label = f"{str(dtype).removeprefix('torch.')}, rank {rank}, {other} {width}"
                yield Configuration(kernel, label, types, form)
