import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.random_checkpoint import Dimensions, configuration
from models.checkpoint import CheckpointError
from models.registry import identify
from models.visual_prm.network import tensor_shapes
from models.visual_prm.spec import SYSTEM_MESSAGE, read_spec
from tests.golden import TINY_VISUAL_PRM

CONFIG: dict[str, Any] = json.loads((TINY_VISUAL_PRM / "config.json").read_text(encoding="utf-8"))
# The keys that are read, by what they hold.
INTEGERS = [
    "force_image_size",
    "min_dynamic_patch",
    "max_dynamic_patch",
    "select_layer",
    *(f"llm_config.{key}" for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")),
    *(f"llm_config.{key}" for key in ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")),
    *(f"vision_config.{key}" for key in ("image_size", "patch_size", "hidden_size", "intermediate_size")),
    *(f"vision_config.{key}" for key in ("num_hidden_layers", "num_attention_heads", "num_channels")),
]
NUMBERS = ["downsample_ratio", "llm_config.rms_norm_eps", "llm_config.rope_theta", "vision_config.layer_norm_eps"]
NUMBERS += ["llm_config.rope_scaling.factor"]
FLAGS = [
    "dynamic_image_size",
    "use_thumbnail",
    "tie_word_embeddings",
    "llm_config.bias",
    "llm_config.tie_word_embeddings",
]
FLAGS += ["vision_config.qkv_bias", "vision_config.qk_normalization"]
CHOICES = ["template", "ps_version", "llm_config.hidden_act", "llm_config.rope_scaling.type"]
CHOICES += ["vision_config.norm_type", "vision_config.hidden_act"]
OBJECTS = ["llm_config", "vision_config"]

NAN, INFINITY, HUGE = float("nan"), float("inf"), 10**400
NOT_INTEGERS: list[object] = [True, 1.5, 4.0, "4", [4], {}, NAN, INFINITY, -99, HUGE, 10**30]
NOT_NUMBERS: list[object] = [True, "1e-6", [1.0], {}, NAN, INFINITY, 0, 0.0, -1.0, HUGE, 1e300]
NOT_FLAGS: list[object] = [0, 1, "true", [], 1.0, HUGE]
NOT_SERVED: list[object] = ["", "other", "V2", 2, True, 1.0, [], {}, NAN, HUGE, "x" * 9999]
NOT_OBJECTS: list[object] = [[], "x", 1, None]


def write(directory: Path, config: object) -> Path:
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def with_key(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *sections, key = path.split(".")
    place = config
    for section in sections:
        place = place[section]
    place[key] = value
    return config


def without(*paths: str) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    for path in paths:
        section, _, key = path.rpartition(".")
        del (config[section] if section else config)[key]
    return config


def refusal(directory: Path, config: object) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_spec(write(directory, config))
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < len(str(directory)) + 300
    assert str(directory / "config.json") in message
    return message


def test_the_tiny_checkpoint_is_read_as_it_is_written() -> None:
    spec = read_spec(TINY_VISUAL_PRM)
    assert identify(TINY_VISUAL_PRM).name == "visual_prm"
    assert (spec.tile_size, spec.tokens_per_tile, spec.shuffle, spec.shuffle_version) == (56, 4, 2, "v2")
    assert (spec.min_tiles, spec.max_tiles, spec.dynamic_tiles, spec.thumbnail) == (1, 12, True, True)
    assert (spec.decoder.head_dim, spec.decoder.queries_per_kv_head, spec.decoder.bias) == (16, 3, False)
    assert (spec.decoder.rope.scaling, spec.decoder.rope.factor, spec.decoder.rope.theta) == ("dynamic", 2.0, 1e6)
    assert spec.system_message == SYSTEM_MESSAGE


def test_the_released_dimensions_have_the_released_number_of_tensors(tmp_path: Path) -> None:
    config = json.dumps(configuration(Dimensions(layers=32), torch.bfloat16))
    spec = read_spec(write(tmp_path, json.loads(config)))
    assert spec.tokens_per_tile == 256
    assert len(tensor_shapes(spec)) == 573


def test_absent_keys_take_the_reference_s_defaults(tmp_path: Path) -> None:
    sections = {"llm_config": {"architectures": ["InternLM2ForCausalLM"]}, "vision_config": {}}
    config = {"architectures": ["InternVLRewardModel"], "template": "internvl2_5", **sections}
    spec = read_spec(write(tmp_path, config))
    assert (spec.shuffle_version, spec.shuffle, spec.select_layer, spec.tile_size) == ("v1", 2, -1, 224)
    assert (spec.min_tiles, spec.max_tiles, spec.dynamic_tiles, spec.thumbnail) == (1, 6, False, False)
    vision, decoder = spec.vision, spec.decoder
    assert (vision.image_size, vision.patch_size, vision.hidden_size, vision.intermediate_size) == (
        224,
        14,
        3200,
        12800,
    )
    assert (vision.layers, vision.heads, vision.eps, vision.activation) == (48, 25, 1e-6, "gelu")
    assert (vision.norm, vision.qkv_bias, vision.qk_normalization) == ("rms_norm", False, True)
    assert (decoder.vocab_size, decoder.hidden_size, decoder.intermediate_size) == (103168, 4096, 11008)
    assert (decoder.layers, decoder.heads, decoder.kv_heads, decoder.rms_norm_eps) == (32, 32, 32, 1e-6)
    assert (decoder.bias, decoder.tied_head) == (True, False)
    rope = decoder.rope
    assert (rope.theta, rope.scaling, rope.max_positions) == (10000, "none", 2048)


@pytest.mark.parametrize("key", ["force_image_size", "system_message", "llm_config.num_key_value_heads"])
def test_null_is_absent_where_the_reference_s_default_is_none(key: str, tmp_path: Path) -> None:
    read_spec(write(tmp_path, with_key(key, None)))


@pytest.mark.parametrize("key", ["architectures", "template", *OBJECTS, "llm_config.architectures"])
def test_a_missing_key_without_a_default_is_named(key: str, tmp_path: Path) -> None:
    assert key.split(".")[-1] in refusal(tmp_path, without(key))


@pytest.mark.parametrize("key", INTEGERS)
def test_a_wrong_integer_is_refused(key: str, tmp_path: Path) -> None:
    for value in NOT_INTEGERS:
        assert key.split(".")[-1] in refusal(tmp_path, with_key(key, value))


@pytest.mark.parametrize("key", [key for key in INTEGERS if key not in ("select_layer", "force_image_size")])
def test_zero_of_a_dimension_is_refused(key: str, tmp_path: Path) -> None:
    assert key.split(".")[-1] in refusal(tmp_path, with_key(key, 0))


@pytest.mark.parametrize("key", NUMBERS)
def test_a_wrong_number_is_refused(key: str, tmp_path: Path) -> None:
    for value in NOT_NUMBERS:
        assert key.split(".")[-1] in refusal(tmp_path, with_key(key, value))


@pytest.mark.parametrize("key", FLAGS)
def test_a_flag_is_true_or_false(key: str, tmp_path: Path) -> None:
    for value in NOT_FLAGS:
        assert key.split(".")[-1] in refusal(tmp_path, with_key(key, value))


@pytest.mark.parametrize("key", CHOICES)
def test_a_choice_that_is_not_served_is_refused(key: str, tmp_path: Path) -> None:
    for value in NOT_SERVED:
        assert key.split(".")[-1] in refusal(tmp_path, with_key(key, value))


@pytest.mark.parametrize("key", OBJECTS)
def test_a_section_is_an_object(key: str, tmp_path: Path) -> None:
    for value in NOT_OBJECTS:
        assert key in refusal(tmp_path, with_key(key, value))


@pytest.mark.parametrize(
    "value", [[], 5, "dynamic", {"type": "dynamic"}, {"factor": 2.0}, {"type": "yarn", "factor": 2}]
)
def test_a_rope_scaling_that_is_not_served_is_refused(value: object, tmp_path: Path) -> None:
    assert "rope_scaling" in refusal(tmp_path, with_key("llm_config.rope_scaling", value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", ["InternVLChatModel"]),
        ("architectures", "InternVLRewardModel"),
        ("architectures", []),
        ("architectures", ["InternVLRewardModel", "Other"]),
        ("llm_config.architectures", ["Qwen2ForCausalLM"]),
        ("template", "internlm2-chat"),
        ("system_message", 5),
        ("llm_config.hidden_size", 100),  # not by 6 heads
        ("llm_config.hidden_size", 90),  # heads of 15
        ("llm_config.num_key_value_heads", 4),
        ("llm_config.num_key_value_heads", 12),
        ("llm_config.rope_scaling.factor", 0.5),
        ("vision_config.hidden_size", 65),
        ("vision_config.num_channels", 1),
        ("force_image_size", 70),  # 5 × 5 patches
        ("force_image_size", 13),  # less than one
        ("downsample_ratio", 0.3),
        ("downsample_ratio", 2),
        ("downsample_ratio", 1 / 3),  # 4 × 4 patches
        ("select_layer", 4),
        ("select_layer", -5),
        ("max_dynamic_patch", 10**6),
    ],
)
def test_what_does_not_fit_together_is_refused(key: str, value: object, tmp_path: Path) -> None:
    assert key.split(".")[-1] in refusal(tmp_path, with_key(key, value)) or key == "downsample_ratio"


def test_a_tower_that_has_no_native_patch_is_refused(tmp_path: Path) -> None:
    assert "image_size" in refusal(tmp_path, with_key("vision_config.image_size", 13))


def test_more_least_than_most_tiles_are_refused(tmp_path: Path) -> None:
    assert "max_dynamic_patch" in refusal(tmp_path, with_key("min_dynamic_patch", 13))


def test_a_head_too_narrow_for_dynamic_rope_is_refused(tmp_path: Path) -> None:
    """The base's exponent is d / (d - 2)."""
    config = with_key("llm_config.num_attention_heads", 48)
    config["llm_config"]["num_key_value_heads"] = 48
    assert "hidden_size" in refusal(tmp_path, config)


def test_positions_of_another_kind_are_refused(tmp_path: Path) -> None:
    """InternVL's later InternLM2 can space picture tokens' positions; with `default` it does not."""
    read_spec(write(tmp_path, with_key("llm_config.rope_pos_id_version", "default")))
    assert "rope_pos_id_version" in refusal(tmp_path, with_key("llm_config.rope_pos_id_version", "v2pe"))


def test_a_head_is_tied_by_the_flag_of_either_section(tmp_path: Path) -> None:
    """The reference ties by the whole model's flag, whose embeddings and head are the decoder's."""
    assert not read_spec(write(tmp_path, CONFIG)).decoder.tied_head
    assert read_spec(write(tmp_path, with_key("llm_config.tie_word_embeddings", True))).decoder.tied_head
    assert read_spec(write(tmp_path, with_key("tie_word_embeddings", True))).decoder.tied_head


@pytest.mark.parametrize("key", ["_commit_hash", "use_backbone_lora", "llm_config.attn_implementation", "unheard_of"])
def test_a_key_that_changes_no_score_is_ignored(key: str, tmp_path: Path) -> None:
    assert read_spec(write(tmp_path, with_key(key, "anything"))) == read_spec(TINY_VISUAL_PRM)


def test_a_system_message_in_the_config_overrides_the_template_s(tmp_path: Path) -> None:
    assert read_spec(write(tmp_path, with_key("system_message", "Judge."))).system_message == "Judge."
    assert read_spec(write(tmp_path, with_key("system_message", ""))).system_message == SYSTEM_MESSAGE


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{} {}", '{"a": ' * 5000, "1" * 5000, "\ufeff{}"])
def test_a_file_that_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    for read in (read_spec, identify):
        with pytest.raises(CheckpointError, match=r"config\.json") as raised:
            read(tmp_path)
        assert "\n" not in str(raised.value)


def test_a_config_that_is_missing_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        read_spec(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="not readable"):
        read_spec(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="not readable"):
        read_spec(tmp_path)


@pytest.mark.parametrize("architectures", [None, [], "InternVLRewardModel", [5], ["Other"], {}, HUGE])
def test_an_architecture_that_is_not_served_is_named(architectures: object, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"config\.json: architectures must be one of InternVLRewardModel"
    ) as raised:
        identify(write(tmp_path, with_key("architectures", architectures)))
    assert len(str(raised.value)) < 300
