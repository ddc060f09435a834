"""The gate of a SwiGLU MLP times what it gates, in one pass."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.triton.forms import TYPE_NAMES, Configuration, Form

_ELEMENTS = 2048


@triton.jit
def _swiglu(gate: tl.tensor, up: tl.tensor, output: tl.tensor, count: tl.tensor, ELEMENTS: tl.constexpr) -> None:
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    inside = place < count
    x = tl.load(gate + place, inside, other=0.0).to(tl.float32)
    y = tl.load(up + place, inside, other=0.0).to(tl.float32)
    # Rounded before it gates, as the reference's activation is.
    gated = (x * tl.sigmoid(x)).to(output.dtype.element_ty).to(tl.float32)
    tl.store(output + place, (gated * y).to(output.dtype.element_ty), inside)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, of any shape."""
    gate, up = gate.contiguous(), up.contiguous()
    output = torch.empty_like(gate)
    form = _form()
    if gate.numel():
        _swiglu[(triton.cdiv(gate.numel(), _ELEMENTS),)](gate, up, output, gate.numel(), **form.launch)
    return output


def _form() -> Form:
    return Form({"ELEMENTS": _ELEMENTS}, warps=8)


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        types = dict.fromkeys(("gate", "up", "output"), f"*{name}:16") | {"count": "i32:16"}
        yield Configuration(_swiglu, str(dtype).removeprefix("torch."), types, _form())
