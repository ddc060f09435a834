"""Vision towers, InternViT and CLIP: tiles of pixels to one feature row a patch."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from kernels.pixel_tiles import pixel_tiles
from kernels.rms_norm import rms_norm_reference
from models.spec import VisionSpec

# Tiles that go through a tower at once: bounds its activations, 70 to 100 MB a tile at the real sizes. A processor
# takes half a second or more for each, others wait until it pauses, and more than two at once are no faster there.
TILES_AT_ONCE = 8
TILES_AT_ONCE_ON_CPU = 2


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": functional.relu,
    "selu": functional.selu,
}


@dataclass(frozen=True, slots=True)
class VisionLayer:
    """One block's weights; `qkv` rows are all queries, then all keys, then all values. CLIP has no scales."""

    norm1: torch.Tensor
    norm1_bias: torch.Tensor | None
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    proj: torch.Tensor
    proj_bias: torch.Tensor
    scale1: torch.Tensor | None
    norm2: torch.Tensor
    norm2_bias: torch.Tensor | None
    fc1: torch.Tensor
    fc1_bias: torch.Tensor
    fc2: torch.Tensor
    fc2_bias: torch.Tensor
    scale2: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class VisionTower:
    """All the tower's weights; only CLIP normalises the embeddings, and only InternViT's patches have a bias."""

    spec: VisionSpec
    class_token: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    patches_bias: torch.Tensor | None
    layers: tuple[VisionLayer, ...]
    embeddings_norm: tuple[torch.Tensor, torch.Tensor] | None = None


def vision_shapes(spec: VisionSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of an InternViT's tensors below `vision_model.`."""
    width, inner = spec.hidden_size, spec.intermediate_size
    block: dict[str, tuple[int, ...]] = {
        "norm1.weight": (width,),
        "norm2.weight": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "mlp.fc1.weight": (inner, width),
        "mlp.fc1.bias": (inner,),
        "mlp.fc2.weight": (width, inner),
        "mlp.fc2.bias": (width,),
        "ls1": (width,),
        "ls2": (width,),
    }
    if spec.norm == "layer_norm":
        block |= {"norm1.bias": (width,), "norm2.bias": (width,)}
    if spec.qkv_bias:
        block |= {"attn.qkv.bias": (3 * width,)}
    if spec.qk_normalization:
        block |= {"attn.q_norm.weight": (width,), "attn.k_norm.weight": (width,)}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (1, 1, width),
        "embeddings.position_embedding": (1, spec.native_grid**2 + 1, width),
        "embeddings.patch_embedding.weight": (width, 3, spec.patch_size, spec.patch_size),
        "embeddings.patch_embedding.bias": (width,),
    }
    for layer in range(spec.layers):
        shapes |= {f"encoder.layers.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def build_vision(spec: VisionSpec, tensors: Mapping[str, torch.Tensor], prefix: str) -> VisionTower:
    """Arrange the tensors named by `vision_shapes` behind `prefix`."""
    embeddings = f"{prefix}embeddings."
    return VisionTower(
        spec=spec,
        class_token=tensors[f"{embeddings}class_embedding"],
        positions=tensors[f"{embeddings}position_embedding"],
        patches=tensors[f"{embeddings}patch_embedding.weight"],
        patches_bias=tensors[f"{embeddings}patch_embedding.bias"],
        layers=tuple(_layer(tensors, f"{prefix}encoder.layers.{index}.") for index in range(spec.layers)),
    )


def _layer(tensors: Mapping[str, torch.Tensor], prefix: str) -> VisionLayer:
    return VisionLayer(
        norm1=tensors[f"{prefix}norm1.weight"],
        norm1_bias=tensors.get(f"{prefix}norm1.bias"),
        qkv=tensors[f"{prefix}attn.qkv.weight"],
        qkv_bias=tensors.get(f"{prefix}attn.qkv.bias"),
        q_norm=tensors.get(f"{prefix}attn.q_norm.weight"),
        k_norm=tensors.get(f"{prefix}attn.k_norm.weight"),
        proj=tensors[f"{prefix}attn.proj.weight"],
        proj_bias=tensors[f"{prefix}attn.proj.bias"],
        scale1=tensors[f"{prefix}ls1"],
        norm2=tensors[f"{prefix}norm2.weight"],
        norm2_bias=tensors.get(f"{prefix}norm2.bias"),
        fc1=tensors[f"{prefix}mlp.fc1.weight"],
        fc1_bias=tensors[f"{prefix}mlp.fc1.bias"],
        fc2=tensors[f"{prefix}mlp.fc2.weight"],
        fc2_bias=tensors[f"{prefix}mlp.fc2.bias"],
        scale2=tensors[f"{prefix}ls2"],
    )


def patch_features(tower: VisionTower, pixels: torch.Tensor, select_layer: int) -> torch.Tensor:
    """Normalised pixels (tiles, 3, size, size) → (tiles, patches, hidden), row-major, the class token dropped.

    `select_layer` counts hidden states as the reference does: 0 the embeddings, -1 the last block's output.
    """
    x = _embed(tower, pixels)
    blocks = select_layer if select_layer >= 0 else len(tower.layers) + 1 + select_layer
    for layer in tower.layers[:blocks]:
        normal = _norm(tower.spec, x, layer.norm1, layer.norm1_bias)
        x = x + _scaled(_attention(tower.spec, layer, normal), layer.scale1)
        normal = _norm(tower.spec, x, layer.norm2, layer.norm2_bias)
        x = x + _scaled(_mlp(tower.spec, layer, normal), layer.scale2)
    return x[:, 1:]


def see_in_parts(
    tiles: torch.Tensor, see: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> Generator[None, None, torch.Tensor]:
    """What `see` makes of tiles (tiles, …) on its device, a few at a time with a pause after them, → (tiles, …)."""
    seen = []
    for part in tiles.split(TILES_AT_ONCE_ON_CPU if device.type == "cpu" else TILES_AT_ONCE):
        seen.append(see(part))
        yield
    return torch.cat(seen)


def normalise(
    tiles: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """uint8 (tiles, height, width, 3) → (tiles, 3, height, width), by each channel's mean and deviation, in float32."""
    return pixel_tiles(tiles, mean, std, dtype)


def merge_patches(patches: torch.Tensor, side: int) -> torch.Tensor:
    """(tiles, grid², c) → (tiles, grid / side, grid / side, side² · c): each square's patches in reading order."""
    tiles, count, width = patches.shape
    grid = int(count**0.5) // side
    squares = patches.view(tiles, grid, side, grid, side, width)
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(tiles, grid, grid, side * side * width)


def _embed(tower: VisionTower, pixels: torch.Tensor) -> torch.Tensor:
    patches = functional.conv2d(pixels, tower.patches, tower.patches_bias, stride=tower.spec.patch_size)
    grid = patches.shape[-1]
    tokens = patches.flatten(2).transpose(1, 2)  # (tiles, patches, hidden)
    x = torch.cat((tower.class_token.expand(len(pixels), 1, -1), tokens), dim=1)
    x = x + _positions(tower, grid)
    return x if tower.embeddings_norm is None else _norm(tower.spec, x, *tower.embeddings_norm)


def _scaled(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    return x if scale is None else x * scale


def _positions(tower: VisionTower, grid: int) -> torch.Tensor:
    """(1, 1 + grid², hidden): learned at the native grid, interpolated bicubically in float32 for another."""
    native = tower.spec.native_grid
    if grid == native:
        return tower.positions
    learned = tower.positions[:, 1:].float().view(1, native, native, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(learned, size=(grid, grid), mode="bicubic", align_corners=False)
    resized = resized.flatten(2).transpose(1, 2).to(tower.positions.dtype)
    return torch.cat((tower.positions[:, :1], resized), dim=1)


def _norm(spec: VisionSpec, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if spec.norm == "rms_norm":
        return rms_norm_reference(x, weight, spec.eps)
    return functional.layer_norm(x, (spec.hidden_size,), weight, bias, spec.eps)


def _attention(spec: VisionSpec, layer: VisionLayer, x: torch.Tensor) -> torch.Tensor:
    tiles, tokens, width = x.shape
    q, k, v = functional.linear(x, layer.qkv, layer.qkv_bias).chunk(3, dim=-1)
    if layer.q_norm is not None and layer.k_norm is not None:
        q = rms_norm_reference(q, layer.q_norm, spec.eps)
        k = rms_norm_reference(k, layer.k_norm, spec.eps)
    q, k, v = (part.reshape(tiles, tokens, spec.heads, -1).transpose(1, 2) for part in (q, k, v))
    attended = functional.scaled_dot_product_attention(q, k, v)  # (tiles, heads, tokens, head_dim)
    return functional.linear(attended.transpose(1, 2).reshape(tiles, tokens, width), layer.proj, layer.proj_bias)


def _mlp(spec: VisionSpec, layer: VisionLayer, x: torch.Tensor) -> torch.Tensor:
    inner = _ACTIVATE[spec.activation](functional.linear(x, layer.fc1, layer.fc1_bias))
    return functional.linear(inner, layer.fc2, layer.fc2_bias)
