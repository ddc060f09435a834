"""Root-mean-square normalisation of rows, of a sum where there is one, which is kept as well."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.triton.forms import TYPE_NAMES, Configuration, Form, power_of_two

# Elements that a program holds: some rows where they are short.
_ELEMENTS = 4096


@triton.jit
def _rms_norm(
    x: tl.tensor,
    plus: tl.tensor,
    weight: tl.tensor,
    total: tl.tensor,
    normal: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    HAS_PLUS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    place = row[:, None] * width + column[None, :]
    inside = (row < rows)[:, None] & (column < width)[None, :]
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    if HAS_PLUS:
        value += tl.load(plus + place, inside, other=0.0).to(tl.float32)
        rounded = value.to(total.dtype.element_ty)
        tl.store(total + place, rounded, inside)
        value = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1) / width + eps)
    # Rounded before it is weighed, as InternLM2 does.
    unit = (value * scale[:, None]).to(normal.dtype.element_ty).to(tl.float32)
    weights = tl.load(weight + column, column < width, other=0.0).to(tl.float32)
    tl.store(normal + place, (unit * weights[None, :]).to(normal.dtype.element_ty), inside)


def rms_norm(
    x: torch.Tensor, plus: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x and `plus` (rows, dim), `weight` (dim,) → their sum, which is x itself without `plus`, and its norm."""
    x = x.contiguous()
    total, normal = x if plus is None else torch.empty_like(x), torch.empty_like(x)
    rows, width = x.shape
    form = _form(width, has_plus=plus is not None)
    if rows:
        added = x if plus is None else plus.contiguous()
        _rms_norm[(triton.cdiv(rows, form.constants["ROWS"]),)](
            x, added, weight, total, normal, rows, width, eps, **form.launch
        )
    return total, normal


def _form(width: int, *, has_plus: bool) -> Form:
    padded = power_of_two(width)
    rows = max(1, _ELEMENTS // padded)
    return Form({"HAS_PLUS": has_plus, "ROWS": rows, "WIDTH": padded}, warps=min(max(rows * padded // 512, 4), 16))


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        for width in (96, 1024, 4096):
            pointers = dict.fromkeys(("x", "plus", "weight", "total", "normal"), f"*{name}:16")
            types = pointers | {"rows": "i32", "width": "i32:16", "eps": "fp32"}
            for has_plus in (False, True):
                label = f"{dtype}, width {width}{', with a sum' if has_plus else ''}".removeprefix("torch.")
                yield Configuration(_rms_norm, label, types, _form(width, has_plus=has_plus))
