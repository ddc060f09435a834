"""The decoder once more: one sequence, nothing shared or fused, differentiable.

It is the oracle of the tests, the maker of the canary's expected scores, and what training runs through.
"""

import torch

from kernels.packed_attention import packed_attention_reference
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
    tables = rope_tables(spec.rope, spec.head_dim, [len(x)], x.device)
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
    attended = packed_attention_reference(q, k, v, [len(x)])
    return project_plain(layer.output, attended.flatten(1), pictures)


def _mlp(decoder: Decoder, layer: DecoderLayer, x: torch.Tensor, pictures: torch.Tensor | None) -> torch.Tensor:
    normal = rms_norm_reference(x, layer.mlp_norm, decoder.spec.rms_norm_eps)
    gate, up = project_plain(layer.gate, normal, pictures), project_plain(layer.up, normal, pictures)
    return project_plain(layer.down, swiglu_reference(gate, up), pictures)
