"""The InternLM2 decoder's weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from kernels.fused_linear import pack
from models.linear import Linear, build_linear, linear_shapes
from models.spec import DecoderSpec

_LINEAR_WEIGHTS = tuple(f".{name}.weight" for name in ("wqkv", "wo", "w1", "w2", "w3"))


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One block's weights as the checkpoint stores them; `qkv` rows are grouped by key-value head."""

    attention_norm: torch.Tensor
    qkv: Linear
    output: Linear
    mlp_norm: torch.Tensor
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Decoder:
    """All the weights between token ids and the final norm, which is left to the read-outs."""

    spec: DecoderSpec
    embeddings: torch.Tensor
    layers: tuple[DecoderLayer, ...]
    final_norm: torch.Tensor


def decoder_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of the decoder's tensors, without their prefix, the head left out."""
    width, inner, rank = spec.hidden_size, spec.intermediate_size, spec.lora_rank
    qkv = (spec.heads + 2 * spec.kv_heads) * spec.head_dim
    block: dict[str, tuple[int, ...]] = {"attention_norm.weight": (width,), "ffn_norm.weight": (width,)}
    block |= linear_shapes("attention.wqkv", qkv, width, bias=spec.bias, lora_rank=rank)
    block |= linear_shapes("attention.wo", width, width, bias=spec.bias, lora_rank=rank)
    block |= linear_shapes("feed_forward.w1", inner, width, lora_rank=rank)
    block |= linear_shapes("feed_forward.w3", inner, width, lora_rank=rank)
    block |= linear_shapes("feed_forward.w2", width, inner, lora_rank=rank)
    shapes: dict[str, tuple[int, ...]] = {
        "model.tok_embeddings.weight": (spec.vocab_size, width),
        "model.norm.weight": (width,),
    }
    for layer in range(spec.layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def pack_decoder(spec: DecoderSpec, tensors: dict[str, torch.Tensor], prefix: str) -> None:
    """Replace the weights of linear maps by packed ones, one by one, so that no more than one is there twice.

    The last layer's `wqkv` stays as it is: its keys' and values' rows are used alone.
    """
    last = f"model.layers.{spec.layers - 1}.attention.wqkv.weight"
    for name in decoder_shapes(spec):
        if name != last and name.endswith(_LINEAR_WEIGHTS):
            tensors[prefix + name] = pack(tensors[prefix + name])


def build_decoder(spec: DecoderSpec, tensors: Mapping[str, torch.Tensor], prefix: str) -> Decoder:
    """Arrange the tensors named by `decoder_shapes` behind `prefix`."""
    return Decoder(
        spec=spec,
        embeddings=tensors[f"{prefix}model.tok_embeddings.weight"],
        layers=tuple(_layer(tensors, f"{prefix}model.layers.{index}.") for index in range(spec.layers)),
        final_norm=tensors[f"{prefix}model.norm.weight"],
    )


def _layer(tensors: Mapping[str, torch.Tensor], prefix: str) -> DecoderLayer:
    return DecoderLayer(
        attention_norm=tensors[f"{prefix}attention_norm.weight"],
        qkv=build_linear(tensors, f"{prefix}attention.wqkv"),
        output=build_linear(tensors, f"{prefix}attention.wo"),
        mlp_norm=tensors[f"{prefix}ffn_norm.weight"],
        gate=build_linear(tensors, f"{prefix}feed_forward.w1"),
        up=build_linear(tensors, f"{prefix}feed_forward.w3"),
        down=build_linear(tensors, f"{prefix}feed_forward.w2"),
    )


def split_qkv(spec: DecoderSpec, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, rows of wqkv) → q (tokens, heads, head_dim), k and v (tokens, kv_heads, head_dim).

    Each key-value head's group of rows holds its query heads, then its key, then its value.
    """
    grouped = qkv.view(len(qkv), spec.kv_heads, spec.queries_per_kv_head + 2, spec.head_dim)
    q, k, v = grouped.split([spec.queries_per_kv_head, 1, 1], dim=2)
    return q.flatten(1, 2), k.squeeze(2), v.squeeze(2)
