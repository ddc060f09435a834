"""A linear map as a checkpoint stores it, with the partial LoRA of picture tokens where a family has it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from kernels.dispatch import runs_kernel
from kernels.fused_linear import fused_linear, unpack
from kernels.partial_lora import partial_lora, partial_lora_reference
from kernels.swiglu import swiglu

_A, _B = "Plora_A.weight", "Plora_B.weight"


@dataclass(frozen=True, slots=True)
class PartialLora:
    """The low-rank term of picture rows: `a` (rank, in), `b` (out, rank)."""

    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class Linear:
    """`weight` (out, in), which may be packed, `bias` (out,)."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    lora: PartialLora | None = None


def linear_shapes(
    name: str, outputs: int, inputs: int, *, bias: bool = False, lora_rank: int = 0
) -> dict[str, tuple[int, ...]]:
    """Name → shape of one linear's tensors; a rank of 0 is no partial LoRA."""
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs, inputs)}
    if bias:
        shapes[f"{name}.bias"] = (outputs,)
    if lora_rank:
        shapes |= {f"{name}.{_A}": (lora_rank, inputs), f"{name}.{_B}": (outputs, lora_rank)}
    return shapes


def build_linear(tensors: Mapping[str, torch.Tensor], name: str) -> Linear:
    """Arrange the tensors named by `linear_shapes`."""
    a, b = tensors.get(f"{name}.{_A}"), tensors.get(f"{name}.{_B}")
    lora = None if a is None or b is None else PartialLora(a, b)
    return Linear(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), lora)


def project(
    linear: Linear,
    x: torch.Tensor,
    pictures: torch.Tensor | None = None,
    *,
    silu: bool = False,
    times: torch.Tensor | None = None,
    plus: torch.Tensor | None = None,
    fixed: bool = False,
) -> torch.Tensor:
    """x (tokens, in) → (tokens, out), then one of silu, `times` or `plus` (tokens, out).

    `pictures` (rows,) int64 are the picture rows, None when there are none. `fixed` is `fused_linear`'s.
    """
    if linear.lora is None or pictures is None:
        return fused_linear(x, linear.weight, linear.bias, silu=silu, times=times, plus=plus, fixed=fixed)
    y = partial_lora(x, linear.weight, linear.bias, linear.lora.a, linear.lora.b, pictures, fixed=fixed)
    if silu:
        return functional.silu(y, inplace=True)
    if times is not None:
        return y.mul_(times)
    return y if plus is None else y.add_(plus)


def project_gated(
    gate: Linear, up: Linear, x: torch.Tensor, pictures: torch.Tensor | None, *, fixed: bool = False
) -> torch.Tensor:
    """silu(gate x) · up x: what follows the products is fused with them, or by a kernel of its own."""
    if runs_kernel("swiglu", x):
        return swiglu(project(gate, x, pictures, fixed=fixed), project(up, x, pictures, fixed=fixed))
    return project(up, x, pictures, times=project(gate, x, pictures, silu=True, fixed=fixed), fixed=fixed)


def project_sum(
    linear: Linear, x: torch.Tensor, pictures: torch.Tensor | None, plus: torch.Tensor, *, fixed: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The product plus `plus`, or both apart where `add_rms_norm` adds them for nothing."""
    if runs_kernel("rms_norm", x):
        return project(linear, x, pictures, fixed=fixed), plus
    return project(linear, x, pictures, plus=plus, fixed=fixed), None


def project_plain(linear: Linear, x: torch.Tensor, pictures: torch.Tensor | None = None) -> torch.Tensor:
    """`project` by the reference."""
    if linear.lora is None or pictures is None:
        return functional.linear(x, unpack(linear.weight), linear.bias)
    return partial_lora_reference(x, linear.weight, linear.bias, linear.lora.a, linear.lora.b, pictures)
