"""The decoder once more: one sequence, nothing shared or fused, differentiable.

It is the oracle of the tests, the maker of the canary's expected scores, and what training runs through.
"""

import torch
from torch.nn import functional

from kernels.packed_attention import packed_attention_reference
from kernels.rms_norm import rms_norm_reference
from kernels.rotary import rotary_reference
from kernels.swiglu import swiglu_reference
from models.decoder import Decoder, DecoderLayer, split_qkv
from models.positions import rope_tables


def decode(decoder: Decoder, x: torch.Tensor) -> torch.Tensor:
    """One sequence's embedded tokens (tokens, dim) → hidden states (tokens, dim) before the final norm."""
    spec = decoder.spec
    cos, sin = rope_tables(spec.rope, spec.head_dim, [len(x)], x.device)
    for layer in decoder.layers:
        x = x + _attention(decoder, layer, x, cos, sin)
        x = x + _mlp(decoder, layer, x)
    return x


def _attention(
    decoder: Decoder, layer: DecoderLayer, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    normal = rms_norm_reference(x, layer.attention_norm, decoder.spec.rms_norm_eps)
    q, k, v = split_qkv(decoder.spec, functional.linear(normal, layer.qkv, layer.qkv_bias))
    q, k = rotary_reference(q, cos, sin), rotary_reference(k, cos, sin)
    attended = packed_attention_reference(q, k, v, [len(x)])
    return functional.linear(attended.flatten(1), layer.output, layer.output_bias)


def _mlp(decoder: Decoder, layer: DecoderLayer, x: torch.Tensor) -> torch.Tensor:
    normal = rms_norm_reference(x, layer.mlp_norm, decoder.spec.rms_norm_eps)
    gate, up = functional.linear(normal, layer.gate), functional.linear(normal, layer.up)
    return functional.linear(swiglu_reference(gate, up), layer.down)
