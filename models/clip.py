"""A CLIP tower's tensors, arranged as the vision tower that `models.vision` runs."""

from collections.abc import Mapping

import torch

from models.linear import linear_shapes
from models.spec import VisionSpec
from models.vision import VisionLayer, VisionTower

_QUERIES_KEYS_VALUES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def clip_shapes(spec: VisionSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tower's tensors below `vision_model.`, without the last norm, which is not run."""
    width, inner = spec.hidden_size, spec.intermediate_size
    block = _norm_shapes("layer_norm1", width) | _norm_shapes("layer_norm2", width)
    for name in (*_QUERIES_KEYS_VALUES, "self_attn.out_proj"):
        block |= linear_shapes(name, width, width, bias=True)
    block |= linear_shapes("mlp.fc1", inner, width, bias=True) | linear_shapes("mlp.fc2", width, inner, bias=True)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.position_embedding.weight": (spec.native_grid**2 + 1, width),
        "embeddings.patch_embedding.weight": (width, 3, spec.patch_size, spec.patch_size),
    }
    shapes |= _norm_shapes("pre_layrnorm", width)
    for layer in range(spec.layers):
        shapes |= {f"encoder.layers.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def build_clip(spec: VisionSpec, tensors: Mapping[str, torch.Tensor], prefix: str) -> VisionTower:
    """Arrange the tensors named by `clip_shapes` behind `prefix`."""
    embeddings, norm = f"{prefix}embeddings.", f"{prefix}pre_layrnorm."
    return VisionTower(
        spec=spec,
        class_token=tensors[f"{embeddings}class_embedding"].view(1, 1, -1),
        positions=tensors[f"{embeddings}position_embedding.weight"].unsqueeze(0),
        patches=tensors[f"{embeddings}patch_embedding.weight"],
        patches_bias=None,
        layers=tuple(_layer(tensors, f"{prefix}encoder.layers.{index}.") for index in range(spec.layers)),
        embeddings_norm=(tensors[f"{norm}weight"], tensors[f"{norm}bias"]),
    )


def _layer(tensors: Mapping[str, torch.Tensor], prefix: str) -> VisionLayer:
    return VisionLayer(
        norm1=tensors[f"{prefix}layer_norm1.weight"],
        norm1_bias=tensors[f"{prefix}layer_norm1.bias"],
        # One product instead of three.
        qkv=torch.cat([tensors[f"{prefix}{name}.weight"] for name in _QUERIES_KEYS_VALUES]),
        qkv_bias=torch.cat([tensors[f"{prefix}{name}.bias"] for name in _QUERIES_KEYS_VALUES]),
        q_norm=None,
        k_norm=None,
        proj=tensors[f"{prefix}self_attn.out_proj.weight"],
        proj_bias=tensors[f"{prefix}self_attn.out_proj.bias"],
        scale1=None,
        norm2=tensors[f"{prefix}layer_norm2.weight"],
        norm2_bias=tensors[f"{prefix}layer_norm2.bias"],
        fc1=tensors[f"{prefix}mlp.fc1.weight"],
        fc1_bias=tensors[f"{prefix}mlp.fc1.bias"],
        fc2=tensors[f"{prefix}mlp.fc2.weight"],
        fc2_bias=tensors[f"{prefix}mlp.fc2.bias"],
        scale2=None,
    )


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
