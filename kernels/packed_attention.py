"""Causal grouped-query attention of sequences packed end to end, without padding."""

from collections.abc import Sequence

import torch
from torch.nn import functional


def packed_attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """q (tokens, heads, head_dim), k and v (tokens, kv_heads, head_dim) → (tokens, heads, head_dim).

    `lengths` cuts the tokens into sequences; a token attends to its own sequence's tokens up to itself. Softmax
    in float32. Materialises (heads, length, length).
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    outputs = [_attend(*part) for part in zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True)]
    return torch.cat(outputs)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))  # (heads, length, head_dim)
    scores = (q @ k.transpose(1, 2)) * q.shape[-1] ** -0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.float().masked_fill(future, float("-inf")).softmax(-1).to(q.dtype)
    output: torch.Tensor = weights @ v
    return output.transpose(0, 1)


def packed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """`packed_attention_reference` by whatever is fastest on q's device, never holding the score matrix."""
    outputs = []
    for one_q, one_k, one_v in zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True):
        heads_first = [x.transpose(0, 1).unsqueeze(0) for x in (one_q, one_k, one_v)]  # (1, heads, length, head_dim)
        attended = functional.scaled_dot_product_attention(
            heads_first[0], heads_first[1], heads_first[2], is_causal=True, enable_gqa=True
        )
        outputs.append(attended.squeeze(0).transpose(0, 1))
    return torch.cat(outputs)
