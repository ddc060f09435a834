"""Root-mean-square normalisation of rows."""

import torch

from kernels.dispatch import runs_kernel
from kernels.processor import CACHED_ROWS
from kernels.trial import Size, Trial, byte_count, draw


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(rows, dim) → (rows, dim): normalised in float32, cast to x's dtype, then times weight, as InternLM2 does."""
    wide = x.float()
    normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * normal.to(x.dtype)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`rms_norm_reference` by whatever is fastest on x's device; on a processor in fewer passes."""
    return add_rms_norm(x, None, weight, eps)[1]


def add_rms_norm(
    x: torch.Tensor, plus: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum x + `plus` (rows, dim), x itself without it, and its `rms_norm`."""
    if runs_kernel("rms_norm", x):
        from kernels.triton.rms_norm import rms_norm as kernel

        return kernel(x, plus, weight, eps)
    total = x if plus is None else x + plus
    normal = torch.empty_like(total)
    for rows, into in zip(total.split(CACHED_ROWS), normal.split(CACHED_ROWS), strict=True):
        # Operators of one type are several times faster than mixed ones.
        wide = rows.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(total.shape[-1]).add_(eps).rsqrt_()
        torch.mul((wide * scale).to(total.dtype), weight, out=into)
    return total, normal


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    x, plus = (draw(size.rows, size.hidden, dtype=dtype, device=device, seed=seed) for seed in (0, 1))
    weight = draw(size.hidden, dtype=dtype, device=device)

    def reference() -> tuple[torch.Tensor, torch.Tensor]:
        return x + plus, rms_norm_reference(x + plus, weight, 1e-5)

    return Trial(lambda: add_rms_norm(x, plus, weight, 1e-5), reference, byte_count(x, plus, x, x, weight))
