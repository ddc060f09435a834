"""What a VisualPRM checkpoint's `config.json` says. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.checkpoint import CheckpointError, Section, read_json
from models.spec import DecoderSpec, VisionSpec, read_decoder, read_vision

ARCHITECTURE = "InternVLRewardModel"
_MOST_TILES = 128  # of one picture
# The internvl2_5 conversation template's own system message, for checkpoints that bring none.
SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


@dataclass(frozen=True, slots=True)
class VisualPRMSpec:
    """`tile_size` pixels along a side of a tile; `shuffle` patches along a side of what one token covers."""

    vision: VisionSpec
    decoder: DecoderSpec
    system_message: str
    tile_size: int
    shuffle: int
    shuffle_version: Literal["v1", "v2"]
    select_layer: int
    dynamic_tiles: bool
    min_tiles: int
    max_tiles: int
    thumbnail: bool

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile_size // self.vision.patch_size // self.shuffle) ** 2


def read_spec(directory: Path) -> VisualPRMSpec:
    """Read `config.json`; absent keys take the defaults of the reference's `InternVLChatConfig`.

    Raises CheckpointError for a missing or wrong key and for what this family does not compute.
    """
    config = read_json(directory / "config.json")
    if config.values.get("architectures") != [ARCHITECTURE]:
        raise config.error("architectures", f'["{ARCHITECTURE}"]', config.values.get("architectures"))
    config.choice("template", None, ["internvl2_5"])
    language = config.section("llm_config")
    if language.values.get("architectures") != ["InternLM2ForCausalLM"]:
        raise language.error("architectures", '["InternLM2ForCausalLM"]', language.values.get("architectures"))
    vision = read_vision(config.section("vision_config"))
    tile_size = config.integer("force_image_size", vision.image_size)
    shuffle = _read_shuffle(config.number("downsample_ratio", 0.5), config.where)
    if tile_size // vision.patch_size % shuffle or tile_size < vision.patch_size:
        raise config.error("force_image_size", f"a whole number of {shuffle} × {shuffle} patches", tile_size)
    select_layer = config.integer("select_layer", -1, least=-vision.layers - 1)
    if select_layer > vision.layers:
        raise config.error("select_layer", f"at most {vision.layers}", select_layer)
    min_tiles = config.integer("min_dynamic_patch", 1)
    max_tiles = config.integer("max_dynamic_patch", 6, most=_MOST_TILES)
    if max_tiles < min_tiles:
        raise config.error("max_dynamic_patch", f"at least min_dynamic_patch ({min_tiles})", max_tiles)
    return VisualPRMSpec(
        vision=vision,
        decoder=read_decoder(language, tied_head=config.flag("tie_word_embeddings", False)),
        system_message=config.text("system_message", "") or SYSTEM_MESSAGE,
        tile_size=tile_size,
        shuffle=shuffle,
        shuffle_version=_read_version(config),
        select_layer=select_layer,
        dynamic_tiles=config.flag("dynamic_image_size", False),
        min_tiles=min_tiles,
        max_tiles=max_tiles,
        thumbnail=config.flag("use_thumbnail", False),
    )


def _read_version(config: Section) -> Literal["v1", "v2"]:
    """Absent is v1. The reference shuffles like v2 for whatever is not the text v1, so a null is not an absence."""
    if "ps_version" in config.values and config.values["ps_version"] is None:
        raise config.error("ps_version", "one of v1, v2", None)
    return "v2" if config.choice("ps_version", "v1", ["v1", "v2"]) == "v2" else "v1"


def _read_shuffle(ratio: float, where: str) -> int:
    """Tokens per patch side is the ratio's inverse, a whole number in every released model."""
    if ratio > 1 or not (1 / ratio).is_integer():
        raise CheckpointError(f"{where}: downsample_ratio must be 1 over a whole number, found {ratio}")
    return int(1 / ratio)
