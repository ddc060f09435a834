"""First weights, and a finished checkpoint's files."""

import json
from collections.abc import Mapping
from math import prod, sqrt
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file

Shapes = Mapping[str, tuple[int, ...]]

_EMBEDDING = 0.05


def first_weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Random float32 weights; a tensor's depend on its name, so that they are the same beside any others."""
    return {
        name: _draw(name, shape, torch.Generator().manual_seed(seed << 32 | crc32(name.encode())))
        for name, shape in shapes.items()
    }


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    tensors = {name: weight.detach().contiguous() for name, weight in sorted(weights.items())}
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    # It is written for its owner alone, and a server may run as another.
    file.chmod(0o644)


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if name.endswith((".bias", "Plora_B.weight")):
        return torch.zeros(shape)
    if name.endswith((".ls1", ".ls2")):
        return torch.full(shape, 0.5)
    if "embedding" in name and "patch" not in name:
        return torch.randn(shape, generator=generator) * _EMBEDDING
    if len(shape) == 1:  # a norm
        return torch.ones(shape)
    if name.endswith("_GN"):
        return torch.randn(shape, generator=generator)
    return torch.randn(shape, generator=generator).div_(sqrt(3 * prod(shape[1:])))
