"""The decoder once more: one sequence, nothing shared or fused, differentiable.

It is the oracle of the tests, the maker of the canary's expected scores, and what training runs through.
"""

import torch

from kernels.rms_norm import rms_norm_reference
from kernels.rotary import rotary_reference
from kernels.swiglu import swiglu_reference
from models.decoder import Decoder, DecoderLayer, split_qkv
from models.linear import project_plain
from models.positions import rope_tables


def decode(decoder: Decoder, x: torch.Tensor, pictures: torch.Tensor | None = None) -> torch.Tensor:
    """One sequence's embedded tokens (tokens, dim) → hidden states (tokens, dim) before the final norm.

    `pictures` (rows,) int64 are the rows of picture tokens, for a decoder with partial LoRA.
    """
    spec = decoder.spec
    tables = rope_tables(spec.rope, spec.head_dim, torch.arange(len(x), device=x.device), len(x))
    for layer in decoder.layers:
        x = x + _attention(decoder, layer, x, tables, pictures)
        x = x + _mlp(decoder, layer, x, pictures)
    return x


def _attention(
    decoder: Decoder,
    layer: DecoderLayer,
    x: torch.Tensor,
    tables: tuple[torch.Tensor, torch.Tensor],
    pictures: torch.Tensor | None,
) -> torch.Tensor:
    normal = rms_norm_reference(x, layer.attention_norm, decoder.spec.rms_norm_eps)
    q, k, v = split_qkv(decoder.spec, project_plain(layer.qkv, normal, pictures))
    q, k = rotary_reference(q, *tables), rotary_reference(k, *tables)
    attended = _attend(q, k, v)
    return project_plain(layer.output, attended.flatten(1), pictures)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q (tokens, heads, head_dim), k and v (tokens, kv_heads, head_dim) → (tokens, heads, head_dim).

    Each token attends to those up to itself; softmax in float32. Materialises (heads, tokens, tokens).
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))  # (heads, tokens, head_dim)
    scores = (q @ k.transpose(1, 2)) * q.shape[-1] ** -0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.float().masked_fill(future, float("-inf")).softmax(-1).to(q.dtype)
    output: torch.Tensor = weights @ v
    return output.transpose(0, 1)


def _mlp(decoder: Decoder, layer: DecoderLayer, x: torch.Tensor, pictures: torch.Tensor | None) -> torch.Tensor:
    normal = rms_norm_reference(x, layer.mlp_norm, decoder.spec.rms_norm_eps)
    gate, up = project_plain(layer.gate, normal, pictures), project_plain(layer.up, normal, pictures)
    return project_plain(layer.down, swiglu_reference(gate, up), pictures)
