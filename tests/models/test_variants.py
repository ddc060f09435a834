"""Every dimension and switch that a VisualPRM config can express, against `oracle`."""

import copy
import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.random_checkpoint import Dimensions, configuration, write_checkpoint
from models.candidate import Candidate, PlacedPicture
from models.checkpoint import TOKENIZER_FILES
from models.encoded import EncodedCandidate
from models.tiling import choose_grid, cut, open_rgb
from models.tokenizer import Segment, Tokenizer, load_tokenizer
from models.visual_prm import network
from models.visual_prm.prompt import StepPrompt, label_ids
from models.visual_prm.spec import SYSTEM_MESSAGE, read_spec
from tests.golden import TINY_VISUAL_PRM, VISUAL_PRM
from tests.models.oracle import Array, Config, Oracle, tensor_shapes

CPU = torch.device("cpu")
TOLERANCE = 1e-5
ABSENT = object()
QUESTION = "What is <image> and <image>?"
PICTURES = ("golden233x144.png", "tall90x500.png")
# The last one is past the limit of positions.
RESPONSES = ["Short.", "First, add.\n\nThen  stop.\n\n", "A long one. " * 30 + "\n\n+\n\n-"]
LIMIT = 230

TINY = Dimensions(
    layers=2,
    hidden=96,
    heads=6,
    kv_heads=2,
    intermediate=80,
    vocab=1115,
    max_positions=LIMIT,
    vision_layers=2,
    vision_hidden=48,
    vision_heads=4,
    vision_intermediate=64,
    image_size=56,
    force_image_size=56,
)


@dataclass(frozen=True)
class Variant:
    """Keys by `section.key` that differ from TINY's; `instead` shows that a key's value is told from another.

    `faint` scales the tower's embeddings down to where an epsilon matters.
    """

    name: str
    keys: Mapping[str, Any]
    instead: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    faint: float = 1.0


def _language(**keys: object) -> dict[str, Any]:
    return {f"llm_config.{key}": value for key, value in keys.items()}


def _vision(**keys: object) -> dict[str, Any]:
    return {f"vision_config.{key}": value for key, value in keys.items()}


VARIANTS = [
    Variant("tiny", {}, {"ps_version": "v1", **_language(rope_scaling=None)}),
    Variant("one_kv_head_of_24", _language(num_attention_heads=4, num_key_value_heads=1, num_hidden_layers=1)),
    Variant("as_many_kv_heads", _language(num_attention_heads=5, num_key_value_heads=5, hidden_size=80)),
    Variant("two_queries_a_group", _language(num_key_value_heads=3, bias=True, vocab_size=1201)),
    Variant(
        "decoder_keys_absent",
        _language(
            hidden_size=80,
            num_attention_heads=2,
            num_key_value_heads=ABSENT,
            bias=ABSENT,
            rope_scaling=ABSENT,
            rope_theta=ABSENT,
            rms_norm_eps=ABSENT,
            max_position_embeddings=ABSENT,
            tie_word_embeddings=ABSENT,
            hidden_act=ABSENT,
        ),
        _language(rope_theta=1000000),
    ),
    Variant("tied_head", _language(tie_word_embeddings=True, vocab_size=1117, rms_norm_eps=1e-2)),
    Variant("tied_by_the_whole_model", {"tie_word_embeddings": True}),
    Variant(
        "linear_rope",
        _language(rope_scaling={"type": "linear", "factor": 2.5}, rope_theta=5000.0),
        _language(rope_scaling=None),
    ),
    Variant("whole_rope_factor", _language(rope_scaling={"type": "dynamic", "factor": 3}, num_key_value_heads=6)),
    Variant(
        "no_rope_scaling", _language(rope_scaling=None), _language(rope_scaling={"type": "dynamic", "factor": 2.0})
    ),
    Variant(
        "vision_keys_absent",
        _vision(
            norm_type=ABSENT,
            qk_normalization=ABSENT,
            qkv_bias=ABSENT,
            layer_norm_eps=ABSENT,
            hidden_act=ABSENT,
            num_channels=ABSENT,
            num_attention_heads=3,
        ),
        faint=0.01,
    ),
    Variant("rms_norm_tower", _vision(norm_type="rms_norm", layer_norm_eps=0.1), _vision(layer_norm_eps=1e-6)),
    Variant("query_key_norm_in_layer_norm_tower", _vision(qk_normalization=True, qkv_bias=False)),
    Variant("tanh_gelu", _vision(hidden_act="gelu_new"), _vision(hidden_act="gelu")),
    Variant("other_tanh_gelu", _vision(hidden_act="gelu_pytorch_tanh")),
    Variant("relu", _vision(hidden_act="relu"), _vision(hidden_act="gelu")),
    Variant("selu", _vision(hidden_act="selu", num_attention_heads=1), _vision(hidden_act="relu")),
    Variant(
        "top_keys_absent",
        dict.fromkeys(["ps_version", "downsample_ratio", "select_layer", "force_image_size"], ABSENT),
        {"ps_version": "v2"},
    ),
    Variant("nulls", {"force_image_size": None, "system_message": None, **_language(num_key_value_heads=None)}),
    Variant(
        "quarter_v2",
        {"downsample_ratio": 0.25, "force_image_size": 112, **_vision(image_size=112)},
        {"ps_version": "v1"},
    ),
    Variant(
        "quarter_v1", {"downsample_ratio": 0.25, "force_image_size": 112, "ps_version": "v1"}, {"ps_version": "v2"}
    ),
    Variant("whole_v1", {"downsample_ratio": 1.0, "ps_version": "v1"}, {"ps_version": "v2"}),
    Variant("whole_v2", {"downsample_ratio": 1}),
    Variant("larger_tiles", {"force_image_size": 84}),
    Variant("smaller_tiles", {"force_image_size": 56, "ps_version": "v1", **_vision(image_size=98)}),
    Variant("tiles_with_a_margin", {"force_image_size": 61, **_vision(image_size=60)}),
    Variant("small_patches", {"force_image_size": 32, **_vision(image_size=48, patch_size=8)}),
    Variant("last_layer_but_one", {"select_layer": -2, **_vision(num_hidden_layers=3)}, {"select_layer": -1}),
    Variant("first_layer", {"select_layer": 1, **_vision(num_hidden_layers=3)}, {"select_layer": -1}),
    Variant("no_layer", {"select_layer": -3}, {"select_layer": -2}),
    Variant("faint_pictures", {"select_layer": 0}, faint=0.003),
    Variant("own_system_message", {"system_message": "You judge <image> steps.  \n"}),
    Variant("stored_in_bfloat16", {}, dtype=torch.bfloat16),
    Variant("stored_in_float16", {}, dtype=torch.float16),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Many small operations beside another test process: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> Variant:
    found = request.param
    assert isinstance(found, Variant)
    return found


def test_every_variant_scores_as_the_oracle(variant: Variant, tmp_path: Path) -> None:
    config = write(tmp_path, variant)
    oracle = Oracle(tmp_path)
    assert {name: tensor.shape for name, tensor in oracle.tensors.items()} == tensor_shapes(config)
    model = network.load(tmp_path, torch.float32, CPU)
    labels = label_ids(tokenizer())
    context = tokenizer().control_id("<IMG_CONTEXT>")
    tiles = pictures(tmp_path)
    with torch.inference_mode():
        candidates = [*encode(model, tmp_path, tiles), *encode(model, tmp_path, [])]
        packed = network.score(model, candidates)
        plain = [network.score_plain(model, candidate).numpy() for candidate in candidates]
        seen = network.picture_features(model, np.concatenate(tiles)).numpy()
    np.testing.assert_allclose(seen, oracle.features(np.concatenate(tiles)).reshape(seen.shape), rtol=0, atol=2e-5)
    assert max(len(candidate.ids) for candidate in candidates) > LIMIT > min(len(c.ids) for c in candidates)
    for candidate, ours, plainly in zip(candidates, packed, plain, strict=True):
        shown = np.concatenate(tiles) if candidate.pictures else None
        expected = oracle.score(candidate.ids.tolist(), candidate.readouts.tolist(), labels, context, shown)
        close(ours, expected)
        close(plainly, expected)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.instead], ids=lambda variant: variant.name)
def test_a_variant_is_told_from_what_it_is_not(variant: Variant, tmp_path: Path) -> None:
    config = write(tmp_path, variant)
    oracle, other = Oracle(tmp_path), Oracle(tmp_path, changed(config, variant.instead))
    tiles = np.concatenate(pictures(tmp_path))
    x = np.random.default_rng(0).standard_normal((LIMIT + 1, config["llm_config"]["hidden_size"]))
    seen = np.abs(oracle.features(tiles) - other.features(tiles)).max()
    read = np.abs(oracle.decode(x) - other.decode(x)).max()
    assert max(seen, read) > 10 * TOLERANCE


def test_prompts_are_the_reference_s_text_tokenised_at_once(variant: Variant, tmp_path: Path) -> None:
    config = write(tmp_path, variant, weights=False)
    spec = read_spec(tmp_path)
    tiles = [3, 1]
    encoded = StepPrompt(spec, tokenizer()).encode_group(
        QUESTION, tiles, [response.split("\n\n") for response in RESPONSES], "parse", 10**6
    )
    for index, response in enumerate(RESPONSES):
        text = prompt_text(config, response, tiles)
        ids = tokenizer().encode([Segment(text, trusted=True)]).ids
        assert encoded.ids(index).tolist() == [*tokenizer().bos.tolist(), *ids.tolist()]


def test_a_random_checkpoint_holds_the_reference_s_tensors(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY, dtype=torch.float32, tokenizer=TINY_VISUAL_PRM)
    oracle = Oracle(tmp_path)
    assert {name: tensor.shape for name, tensor in oracle.tensors.items()} == tensor_shapes(oracle.config)


def test_the_oracle_has_the_reference_s_numbers() -> None:
    case = next(case for case in golden_cases() if len(case["images"]) == 2)
    expected = case["expected"]
    images = [open_rgb((VISUAL_PRM / name).read_bytes()) for name in case["images"]]
    tiles = [cut(image, tuple(grid), 56, True) for image, grid in zip(images, expected["tile_grid_wh"], strict=True)]
    tokens = load_tokenizer(TINY_VISUAL_PRM)
    found = Oracle(TINY_VISUAL_PRM).score(
        expected["soft_v2"]["input_ids"],
        expected["soft_v2"]["placeholder_idx"],
        label_ids(tokens),
        tokens.control_id("<IMG_CONTEXT>"),
        np.concatenate(tiles),
    )
    np.testing.assert_allclose(chance(found), expected["soft_v2"]["scores"], atol=2e-6)


def golden_cases() -> Iterator[Any]:
    with (VISUAL_PRM / "cases.jsonl").open(encoding="utf-8") as lines:
        yield from (case for case in map(json.loads, lines) if "scores" in case["expected"].get("soft_v2", {}))


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(TINY_VISUAL_PRM)


def write(directory: Path, variant: Variant, *, weights: bool = True) -> Config:
    """The checkpoint of a variant, its tensors named and shaped by the oracle; returns its config."""
    directory.mkdir(exist_ok=True)
    config = changed(configuration(TINY, variant.dtype), variant.keys)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(TINY_VISUAL_PRM / name, directory / name)
    if weights:
        generator = torch.Generator().manual_seed(7)
        shapes = tensor_shapes(config)
        tensors = {name: draw(name, shape, generator) for name, shape in shapes.items()}
        for name in tensors:
            if name.startswith("vision_model.embeddings."):
                tensors[name] *= variant.faint
            tensors[name] = tensors[name].to(variant.dtype)
        save_file(tensors, directory / "model.safetensors")
    return config


def changed(config: Config, keys: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(dict(config))
    for path, value in keys.items():
        section, _, key = path.rpartition(".")
        place = result[section] if section else result
        place.pop(key, None)
        if value is not ABSENT:
            place[key] = value
    return result


def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Wide enough that nothing hides: layer scale near 1, biases and positions that matter."""
    noise: torch.Tensor = torch.randn(shape, generator=generator)
    if name.endswith(".bias"):
        return 0.3 * noise
    if name.endswith(("_embedding", "tok_embeddings.weight")):
        return noise
    if len(shape) == 1:
        return 1 + 0.3 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


def pictures(directory: Path) -> list[Array]:
    spec = read_spec(directory)
    images = [open_rgb((VISUAL_PRM / "images" / name).read_bytes()) for name in PICTURES]
    return [cut(i, choose_grid(*i.size, spec.tile_size, 1, 2), spec.tile_size, spec.thumbnail) for i in images]


def encode(model: network.VisualPRM, directory: Path, tiles: list[Array]) -> list[Candidate]:
    asked = QUESTION if tiles else "What is it?"
    prompt = StepPrompt(read_spec(directory), tokenizer())
    group = prompt.encode_group(asked, [len(t) for t in tiles], [r.split("\n\n") for r in RESPONSES], "parse", 10**6)
    features = [network.picture_features(model, part) for part in tiles]
    placed = tuple(PlacedPicture(run.offset, rows) for run, rows in zip(group.pictures, features, strict=True))
    readouts = [c.readouts for c in group.candidates if isinstance(c, EncodedCandidate)]
    return [Candidate(group.ids(index), places, placed) for index, places in enumerate(readouts)]


def prompt_text(config: Config, response: str, tiles: list[int]) -> str:
    """The whole prompt by the rules of facts section 6."""
    turns = [("system", config.get("system_message") or SYSTEM_MESSAGE)]
    for index, step in enumerate(response.split("\n\n")):
        first = f"### Question:\n{QUESTION}\n\n### Solution Process:\n{step}"
        turns += [("user", step if index else first), ("assistant", "+")]
    text = "".join(
        f"<|im_start|>{role}\n{said}<|im_end|>\n" if said else f"<|im_start|>{role}\n" for role, said in turns
    )
    vision = config["vision_config"]
    size = config.get("force_image_size") or vision["image_size"]
    per_tile = int((size // vision["patch_size"]) ** 2 * config.get("downsample_ratio", 0.5) ** 2)
    for count in tiles:
        text = text.replace("<image>", "<img>" + "<IMG_CONTEXT>" * (per_tile * count) + "</img>", 1)
    return text


def chance(logits: Array) -> Array:
    """P(+), in float64."""
    wide = logits.astype(np.float64)
    found: Array = 1 / (1 + np.exp(wide[:, 1] - wide[:, 0]))
    return found


def close(found: Array, expected: Array) -> None:
    score = chance(expected)
    assert np.all(np.abs(chance(found) - score) <= TOLERANCE * (1 + score))
    margin = expected[:, 0] - expected[:, 1]
    assert np.all(np.abs(found[:, 0] - found[:, 1] - margin) <= 3 * TOLERANCE * (1 + np.abs(margin)))


def test_variants_have_names_of_their_own() -> None:
    assert not any(one.name == other.name for one, other in itertools.combinations(VARIANTS, 2))
