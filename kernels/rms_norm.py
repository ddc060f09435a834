"""Root-mean-square normalisation of rows."""

import torch


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(rows, dim) → (rows, dim): normalised in float32, cast to x's dtype, then times weight, as InternLM2 does."""
    wide = x.float()
    normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * normal.to(x.dtype)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`rms_norm_reference` by whatever is fastest on x's device; on a processor x is read twice, not six times."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    normal: torch.Tensor = (x * scale).to(x.dtype)
    return normal.mul_(weight)
