"""From hidden states at read-outs to the logits of the label tokens, their log-odds and a probability."""

from dataclasses import dataclass

import torch

from kernels.dispatch import runs_kernel
from kernels.rms_norm import rms_norm_reference
from kernels.trial import Size, Trial, byte_count, draw


@dataclass(frozen=True, slots=True, eq=False)
class StepScores:
    """`logits` (read-outs, labels); `log_odds` and `probability` (read-outs,) of the first label; all float32.

    The odds are against the second label; one label's logit is its log-odds. They need one label or two.
    """

    logits: torch.Tensor
    log_odds: torch.Tensor
    probability: torch.Tensor


def step_scores_reference(
    hidden: torch.Tensor, rows: torch.Tensor, norm: torch.Tensor, eps: float, labels: torch.Tensor
) -> StepScores:
    """hidden (tokens, dim) at int64 `rows` (read-outs,), and (labels, dim) rows of the head; differentiable."""
    return _weighed(rms_norm_reference(hidden[rows], norm, eps).float() @ labels.float().T)


def step_scores(
    hidden: torch.Tensor, rows: torch.Tensor, norm: torch.Tensor, eps: float, labels: torch.Tensor
) -> StepScores:
    """`step_scores_reference` by whatever is fastest on hidden's device.

    The labels are few: multiplied and summed, a row has the same bits however many there are.
    """
    if runs_kernel("step_scores", hidden):
        from kernels.triton.step_scores import step_scores as kernel

        return StepScores(*kernel(hidden, rows, norm, eps, labels))
    normal = rms_norm_reference(hidden[rows], norm, eps).float()
    return _weighed(torch.stack([(normal * label).sum(-1) for label in labels.float()], dim=-1))


def _weighed(logits: torch.Tensor) -> StepScores:
    odds = logits[:, 0] - logits[:, 1] if logits.shape[1] == 2 else logits[:, 0]
    return StepScores(logits, odds, odds.sigmoid())


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    hidden = draw(size.rows, size.hidden, dtype=dtype, device=device)
    norm, labels = (draw(*shape, dtype=dtype, device=device) for shape in ((size.hidden,), (2, size.hidden)))
    # As read-outs lie: at the end of each step of 40 tokens behind the prefix.
    rows = torch.arange(size.rows - 1, size.prefix - 1, -40, device=device).flip(0)
    labels *= size.hidden**-0.5

    def tensors(scores: StepScores) -> tuple[torch.Tensor, ...]:
        return scores.logits, scores.log_odds, scores.probability

    return Trial(
        lambda: tensors(step_scores(hidden, rows, norm, 1e-5, labels)),
        lambda: tensors(step_scores_reference(hidden, rows, norm, 1e-5, labels)),
        byte_count(hidden[: len(rows)], rows, norm, labels) + 4 * 4 * len(rows),
    )
