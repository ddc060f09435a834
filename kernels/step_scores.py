"""From hidden states at read-out rows to the logits of the label tokens."""

import torch

from kernels.rms_norm import rms_norm_reference


def step_scores_reference(hidden: torch.Tensor, norm: torch.Tensor, eps: float, labels: torch.Tensor) -> torch.Tensor:
    """(read-outs, dim) hidden and (labels, dim) rows of the head → (read-outs, labels) float32 logits."""
    return rms_norm_reference(hidden, norm, eps).float() @ labels.float().T


def step_scores(hidden: torch.Tensor, norm: torch.Tensor, eps: float, labels: torch.Tensor) -> torch.Tensor:
    """`step_scores_reference` by whatever is fastest on hidden's device.

    The labels are few: multiplied and summed, a row has the same bits however many there are.
    """
    normal = rms_norm_reference(hidden, norm, eps).float()
    return torch.stack([(normal * label).sum(-1) for label in labels.float()], dim=-1)
