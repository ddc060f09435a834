"""Final norm, label rows, log-odds and probability of read-outs in one launch: a program reads one row, once."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.triton.forms import TYPE_NAMES, Configuration, Form, power_of_two

# Elements of a row that a thread holds.
_ELEMENTS = 16


@triton.jit
def _step_scores(
    hidden: tl.tensor,
    rows: tl.tensor,
    norm: tl.tensor,
    labels: tl.tensor,
    logits: tl.tensor,
    log_odds: tl.tensor,
    probability: tl.tensor,
    hidden_row: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    LABELS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    readout = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    row = tl.load(rows + readout).to(tl.int64)
    value = tl.load(hidden + row * hidden_row + column, inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / width + eps)
    # Rounded before it is weighed and after, as the reference's norm is.
    unit = (value * scale).to(hidden.dtype.element_ty).to(tl.float32)
    weights = tl.load(norm + column, inside, other=0.0).to(tl.float32)
    normal = (unit * weights).to(hidden.dtype.element_ty).to(tl.float32)
    odds = 0.0
    for index in tl.static_range(LABELS):
        label = tl.load(labels + index * width + column, inside, other=0.0).to(tl.float32)
        logit = tl.sum(normal * label, 0)
        tl.store(logits + readout * LABELS + index, logit)
        if index == 0:
            odds = logit
        if index == 1 and LABELS == 2:
            odds -= logit
    tl.store(log_odds + readout, odds)
    tl.store(probability + readout, tl.sigmoid(odds))


def step_scores(
    hidden: torch.Tensor, rows: torch.Tensor, norm: torch.Tensor, eps: float, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (read-outs, labels), log-odds and probability (read-outs,) of hidden (tokens, dim) at `rows`."""
    assert hidden.stride(1) == 1
    count, width = len(rows), hidden.shape[1]
    logits = torch.empty(count, len(labels), dtype=torch.float32, device=hidden.device)
    odds, probability = (torch.empty(count, dtype=torch.float32, device=hidden.device) for _ in range(2))
    if count:
        form = _form(width, len(labels))
        _step_scores[(count,)](
            hidden,
            rows,
            norm.contiguous(),
            labels.contiguous(),
            logits,
            odds,
            probability,
            hidden.stride(0),
            width,
            eps,
            **form.launch,
        )
    return logits, odds, probability


def _form(width: int, labels: int) -> Form:
    padded = power_of_two(width)
    return Form({"LABELS": labels, "WIDTH": padded}, warps=min(max(padded // (32 * _ELEMENTS), 1), 16))


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        types = dict.fromkeys(("hidden", "norm", "labels"), f"*{name}:16") | {"rows": "*i64:16"}
        types |= dict.fromkeys(("logits", "log_odds", "probability"), "*fp32:16")
        types |= {"hidden_row": "i32:16", "width": "i32:16", "eps": "fp32"}
        for width in (96, 1024, 4096, 8192):
            for labels in (1, 2):
                label = f"{dtype}, width {width}, {labels} labels".removeprefix("torch.")
                yield Configuration(_step_scores, label, types, _form(width, labels))
