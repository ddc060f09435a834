"""Write a VisualPRM checkpoint of random weights, by default with VisualPRM-8B's dimensions in two layers.

python -m benchmarks.random_checkpoint DIR [--layers 32] [--dtype float32] [--seed 7]
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.checkpoint import TOKENIZER_FILES
from models.visual_prm.network import tensor_shapes
from models.visual_prm.spec import read_spec

# Its ids fit the real vocabulary, and it lies in the checkout.
TOKENIZER = Path(__file__).parents[1] / "tests" / "checkpoints" / "visualprm"
_BLOCK = 1 << 22  # elements drawn at once


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What `config.json` says; the defaults are VisualPRM-8B's but for the number of decoder layers."""

    layers: int = 2
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    intermediate: int = 14336
    vocab: int = 92553
    max_positions: int = 32768
    bias: bool = False
    tied_head: bool = False
    vision_layers: int = 24
    vision_hidden: int = 1024
    vision_heads: int = 16
    vision_intermediate: int = 4096
    image_size: int = 448
    patch_size: int = 14
    qkv_bias: bool = True
    qk_normalization: bool = False
    norm_type: str = "layer_norm"
    force_image_size: int = 448
    ps_version: str = "v2"
    select_layer: int = -1
    max_tiles: int = 12


# The decoder of the engine's benchmark, 441 M parameters, behind a tower that costs nothing.
LARGE = Dimensions(
    layers=16,
    hidden=1024,
    heads=16,
    kv_heads=8,
    intermediate=4096,
    vision_layers=1,
    vision_hidden=64,
    vision_heads=2,
    vision_intermediate=128,
)


def write_checkpoint(
    directory: Path,
    dimensions: Dimensions = Dimensions(),
    *,
    dtype: torch.dtype = torch.bfloat16,
    tokenizer: Path | None = TOKENIZER,
    shard_bytes: int = 1 << 30,
    seed: int = 0,
) -> None:
    """Write config, tokenizer, index and shards into `directory`; a seed gives the same numbers in any dtype.

    Activations stay near 1 through the network. Holds one shard in memory: at most `shard_bytes`, or the
    largest tensor.
    """
    write_files(directory, configuration(dimensions, dtype), tokenizer)
    write_tensors(directory, tensor_shapes(read_spec(directory)), dtype=dtype, shard_bytes=shard_bytes, seed=seed)


def write_files(directory: Path, config: Mapping[str, object], tokenizer: Path | None) -> None:
    """`config.json`, and the tokenizer's files from another checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / "config.json", config)
    for file in () if tokenizer is None else (tokenizer / name for name in TOKENIZER_FILES):
        if file.is_file():
            shutil.copyfile(file, directory / file.name)


def write_tensors(
    directory: Path,
    shapes: dict[str, tuple[int, ...]],
    *,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = 1 << 30,
    seed: int = 0,
) -> None:
    """Index and shards of random tensors; one shard is held in memory."""
    shards = list(_shards(shapes, shard_bytes // dtype.itemsize))
    generator = torch.Generator().manual_seed(seed)
    placed: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weights = {name: _random_tensor(name, shapes[name], dtype, generator) for name in names}
        save_file(weights, directory / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(names, file)
    total = sum(map(prod, shapes.values())) * dtype.itemsize
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    _write_json(directory / "model.safetensors.index.json", index)


def configuration(dimensions: Dimensions, dtype: torch.dtype) -> dict[str, object]:
    """The released checkpoint's `config.json` with these dimensions."""
    d, dtype_name = dimensions, str(dtype).removeprefix("torch.")
    vision = {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_act": "gelu",
        "hidden_size": d.vision_hidden,
        "image_size": d.image_size,
        "intermediate_size": d.vision_intermediate,
        "layer_norm_eps": 1e-6,
        "norm_type": d.norm_type,
        "num_attention_heads": d.vision_heads,
        "num_channels": 3,
        "num_hidden_layers": d.vision_layers,
        "patch_size": d.patch_size,
        "qk_normalization": d.qk_normalization,
        "qkv_bias": d.qkv_bias,
        "torch_dtype": dtype_name,
    }
    language = {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": d.bias,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": d.hidden,
        "intermediate_size": d.intermediate,
        "max_position_embeddings": d.max_positions,
        "num_attention_heads": d.heads,
        "num_hidden_layers": d.layers,
        "num_key_value_heads": d.kv_heads,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rope_theta": 1000000,
        "tie_word_embeddings": d.tied_head,
        "torch_dtype": dtype_name,
        "vocab_size": d.vocab,
    }
    return {
        "architectures": ["InternVLRewardModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": d.force_image_size,
        "llm_config": language,
        "max_dynamic_patch": d.max_tiles,
        "min_dynamic_patch": 1,
        "ps_version": d.ps_version,
        "select_layer": d.select_layer,
        "template": "internvl2_5",
        "torch_dtype": dtype_name,
        "use_thumbnail": True,
        "vision_config": vision,
    }


def _shards(shapes: dict[str, tuple[int, ...]], limit: int) -> Iterator[list[str]]:
    """Names in order, cut into runs of at most `limit` elements or one tensor."""
    names: list[str] = []
    held = 0
    for name, shape in shapes.items():
        if names and held + prod(shape) > limit:
            yield names
            names, held = [], 0
        names.append(name)
        held += prod(shape)
    yield names


def _random_tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    mean, deviation = _distribution(name, shape)
    tensor = torch.empty(shape, dtype=dtype)
    flat = tensor.view(-1)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        block.copy_(torch.randn(len(block), generator=generator).mul_(deviation).add_(mean))
    return tensor


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation; a matrix keeps its input's scale, and nothing is constant, so nothing hides."""
    if name.endswith(".bias"):
        return 0.0, 0.02
    if name.endswith((".ls1", ".ls2")):
        return 0.1, 0.01
    if name.endswith(("class_embedding", "position_embedding", "position_embedding.weight", "_GN")):
        return 0.0, 0.5
    if len(shape) == 1:  # a norm
        return 1.0, 0.05
    return 0.0, prod(shape[1:]) ** -0.5


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _parse(arguments: Iterable[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(Dimensions):
        option, default = "--" + field.name.replace("_", "-"), field.default
        assert default is not MISSING
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    return parser.parse_args(arguments if arguments is None else list(arguments))


def main() -> None:
    options = _parse()
    dimensions = Dimensions(**{field.name: getattr(options, field.name) for field in fields(Dimensions)})
    dtype = getattr(torch, options.dtype)
    write_checkpoint(options.directory, dimensions, dtype=dtype, tokenizer=options.tokenizer, seed=options.seed)


if __name__ == "__main__":
    main()
