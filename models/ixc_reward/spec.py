"""What an IXC-2.5-Reward checkpoint's `config.json` says. Torch-free."""

from dataclasses import dataclass, replace
from pathlib import Path

from models.checkpoint import CheckpointError, Section, read_json
from models.spec import DecoderSpec, VisionSpec, read_decoder

ARCHITECTURE = "InternLMXComposer2ForCausalLM"
_MERGED = 2  # patches along a side of what one token covers
_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True)
class IXCRewardSpec:
    """The CLIP tower, whose image size is that of a tile, and the decoder with its partial LoRA."""

    vision: VisionSpec
    decoder: DecoderSpec

    @property
    def tile_size(self) -> int:
        return self.vision.image_size

    @property
    def merged(self) -> int:
        """Patches along a side of what one token covers."""
        return _MERGED

    @property
    def tile_side(self) -> int:
        """Tokens along a side of a tile."""
        return self.vision.native_grid // _MERGED


def read_spec(directory: Path) -> IXCRewardSpec:
    """Read `config.json`; what the released one leaves out takes the numbers that the reference hard-codes.

    Raises CheckpointError for a missing or wrong key and for what this family does not compute.
    """
    config = read_json(directory / "config.json")
    if config.values.get("architectures") != [ARCHITECTURE]:
        raise config.error("architectures", f'["{ARCHITECTURE}"]', config.values.get("architectures"))
    decoder = replace(read_decoder(config), lora_rank=config.integer("plora_rank", 256))
    return IXCRewardSpec(vision=_read_clip(config), decoder=decoder)


def _read_clip(config: Section) -> VisionSpec:
    """Absent, it is CLIP ViT-L/14 at 560 pixels: the released configuration names no tower."""
    absent = config.values.get("vision_config") is None
    vision = Section(f"{config.where}: vision_config", {}) if absent else config.section("vision_config")
    if vision.integer("num_channels", 3) != 3:
        raise CheckpointError(f"{vision.where}: num_channels must be 3")
    vision.choice("hidden_act", "quick_gelu", ["quick_gelu"])
    spec = VisionSpec(
        image_size=vision.integer("image_size", 560),
        patch_size=vision.integer("patch_size", 14),
        hidden_size=vision.integer("hidden_size", 1024),
        intermediate_size=vision.integer("intermediate_size", 4096),
        layers=vision.integer("num_hidden_layers", 24, most=_MOST_LAYERS),
        heads=vision.integer("num_attention_heads", 16),
        eps=vision.number("layer_norm_eps", 1e-5),
        qkv_bias=True,
        qk_normalization=False,
        norm="layer_norm",
        activation="quick_gelu",
    )
    if spec.hidden_size % spec.heads:
        raise vision.error("hidden_size", f"a multiple of {spec.heads} heads", spec.hidden_size)
    if spec.image_size % (_MERGED * spec.patch_size):
        raise vision.error("image_size", f"a multiple of {_MERGED} × {spec.patch_size} pixels", spec.image_size)
    return spec
