"""A linear map with what follows it: the activation, a product or a residual sum, while its output is in registers."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from kernels.dispatch import runs_kernel
from kernels.fixed_linear import fixed_linear
from kernels.processor import has_amx, has_onednn

# A product of fewer rows may add up in another order.
WHOLE_ROWS = 16
# So may one of other whole multiples, unless it is known not to: in batch-invariant mode it always has this many.
_FIXED_ROWS = 256


def pack(weight: torch.Tensor) -> torch.Tensor:
    """A weight in the order in which the processor's products read it, or itself where there is no such order.

    Products with it are 6 % faster in bfloat16 and a quarter in float32; it has no strides and cannot be sliced.
    """
    if not has_onednn(weight):
        return weight
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def unpack(weight: torch.Tensor) -> torch.Tensor:
    """The same numbers as an ordinary tensor, in memory of its own if it was packed."""
    return weight.to_dense() if weight.is_mkldnn else weight


def fused_linear_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    silu: bool = False,
    times: torch.Tensor | None = None,
    plus: torch.Tensor | None = None,
) -> torch.Tensor:
    """x (tokens, in), `weight` (out, in), `bias` (out,) → (tokens, out): W x + b, then silu, or times, or plus."""
    return _follow(functional.linear(x, unpack(weight), bias), silu=silu, times=times, plus=plus)


def _follow(y: torch.Tensor, *, silu: bool, times: torch.Tensor | None, plus: torch.Tensor | None) -> torch.Tensor:
    if silu:
        return functional.silu(y)
    if times is not None:
        return y * times
    return y if plus is None else y + plus


def fused_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    silu: bool = False,
    times: torch.Tensor | None = None,
    plus: torch.Tensor | None = None,
    fixed: bool = False,
) -> torch.Tensor:
    """`fused_linear_reference` by whatever is fastest on x's device; on a processor oneDNN fuses what follows.

    Its sums are rounded once, after what follows, where the reference rounds twice. `fixed` gives a row the same bits
    whatever the number of rows; on a processor that takes whole multiples of `WHOLE_ROWS`.
    """
    if fixed and runs_kernel("fixed_linear", x):
        return _follow(fixed_linear(x, unpack(weight), bias), silu=silu, times=times, plus=plus)
    if fixed and x.device.type == "cpu" and not _adds_alike(x, weight):
        return _in_tiles(x, weight, bias, silu=silu, times=times, plus=plus)
    other = times if times is not None else plus
    follows = silu or other is not None
    if not has_onednn(x) or not (follows or weight.is_mkldnn):
        return fused_linear_reference(x, weight, bias, silu=silu, times=times, plus=plus)
    pointwise = torch.ops.mkldnn._linear_pointwise
    fused: torch.Tensor
    if other is None:
        fused = pointwise(x, weight, bias, "swish" if silu else "none", [], "")
    else:
        fused = pointwise.binary(x, other, weight, bias, "add" if times is None else "mul")
    return fused


def _adds_alike(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether whole multiples of rows add up in one order: AMX's products and unpacked float32 ones cut long sums."""
    return weight.is_mkldnn and not has_amx(x)


def _in_tiles(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    silu: bool,
    times: torch.Tensor | None,
    plus: torch.Tensor | None,
) -> torch.Tensor:
    """`fused_linear` of always as many rows at once, whose sums then have one order."""
    missing = -len(x) % _FIXED_ROWS

    def cut(part: torch.Tensor) -> Sequence[torch.Tensor]:
        # Padding by nothing would copy.
        whole = functional.pad(part, (0, 0, 0, missing)) if missing else part
        pieces: Sequence[torch.Tensor] = whole.split(_FIXED_ROWS)
        return pieces

    tiles = cut(x)
    nothing = [None] * len(tiles)
    its_times, its_plus = (nothing if part is None else cut(part) for part in (times, plus))
    done = [
        fused_linear(tile, weight, bias, silu=silu, times=by, plus=more)
        for tile, by, more in zip(tiles, its_times, its_plus, strict=True)
    ]
    return torch.cat(done)[: len(x)]
