import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import CheckpointError
from models.ixc_reward.network import tensor_shapes
from models.ixc_reward.spec import ARCHITECTURE, read_spec
from tests.golden import TINY_IXC_REWARD

CONFIG: dict[str, Any] = json.loads((TINY_IXC_REWARD / "config.json").read_text(encoding="utf-8"))
# What the released 7B's configuration says, as far as it is known.
RELEASED: dict[str, Any] = {
    "architectures": [ARCHITECTURE],
    "bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000_000,
    "vocab_size": 92544,
}


def write(directory: Path, config: object) -> Path:
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def with_vision(**keys: object) -> dict[str, Any]:
    return {**CONFIG, "vision_config": {**CONFIG["vision_config"], **keys}}


def test_the_tiny_checkpoint_is_read_as_it_is_written() -> None:
    spec = read_spec(TINY_IXC_REWARD)
    assert (spec.tile_size, spec.tile_side, spec.merged, spec.decoder.lora_rank) == (56, 2, 2, 8)
    assert (spec.vision.hidden_size, spec.vision.layers, spec.vision.heads, spec.vision.eps) == (40, 3, 4, 1e-5)
    assert (spec.decoder.head_dim, spec.decoder.queries_per_kv_head, spec.decoder.bias) == (16, 3, False)
    assert (spec.decoder.rope.scaling, spec.decoder.rope.factor, spec.decoder.rope.max_positions) == (
        "dynamic",
        2,
        2048,
    )


def test_the_released_configuration_names_no_tower_and_no_rank(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, RELEASED))
    vision = spec.vision
    assert (vision.image_size, vision.patch_size, vision.hidden_size) == (560, 14, 1024)
    assert (vision.layers, vision.heads, vision.intermediate_size) == (24, 16, 4096)
    assert (vision.eps, vision.activation, spec.decoder.lora_rank) == (1e-5, "quick_gelu", 256)
    assert spec.tile_side == 20


def test_the_released_dimensions_have_the_released_number_of_tensors(tmp_path: Path) -> None:
    shapes = tensor_shapes(read_spec(write(tmp_path, RELEASED)))
    # Two more lie in the file: the tower's last norm, which is not run.
    assert len(shapes) + 2 == 944
    assert 8.295e9 < sum(map(prod, shapes.values())) < 8.305e9
    assert shapes["plora_glb_GN"] == (1, 1, 4096)
    assert shapes["model.layers.31.feed_forward.w2.Plora_A.weight"] == (256, 14336)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({**CONFIG, "architectures": ["InternLM2ForCausalLM"]}, "architectures"),
        ({**CONFIG, "plora_rank": 0}, "plora_rank"),
        ({**CONFIG, "vision_config": []}, "vision_config"),
        (with_vision(hidden_act="gelu"), "hidden_act"),
        (with_vision(num_channels=1), "num_channels"),
        (with_vision(image_size=70), "image_size"),
        (with_vision(num_attention_heads=3), "hidden_size"),
        (with_vision(layer_norm_eps=0), "layer_norm_eps"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(config: object, named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{named}") as raised:
        read_spec(write(tmp_path, config))
    assert "\n" not in str(raised.value)
