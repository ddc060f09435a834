"""Dimensions of the parts that families share, as read from a checkpoint. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from models.checkpoint import CheckpointError, Section

_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary positions. `dynamic` raises the base once a sequence outgrows `max_positions` (dynamic NTK)."""

    theta: float
    scaling: Literal["none", "linear", "dynamic"]
    factor: float
    max_positions: int

    @property
    def longest_shared(self) -> int | None:
        """A longer sequence has a base of its own, so that its keys are no other's; None where all have the same."""
        return self.max_positions if self.scaling == "dynamic" else None


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """An InternLM2 decoder: pre-norm, grouped-query attention, rotary positions, SwiGLU.

    `lora_rank` is that of the partial LoRA on the linears of each layer, 0 where there is none.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    rms_norm_eps: float
    bias: bool
    tied_head: bool
    rope: RopeSpec
    lora_rank: int = 0

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    @property
    def queries_per_kv_head(self) -> int:
        return self.heads // self.kv_heads


def read_decoder(config: Section, *, tied_head: bool = False) -> DecoderSpec:
    """An InternLM2 configuration, absent keys as `InternLM2Config` fills them in.

    `tied_head` is the flag of the configuration around it, which ties the head as well as its own does.
    Raises CheckpointError for what the decoder does not compute.
    """
    heads = config.integer("num_attention_heads", 32)
    spec = DecoderSpec(
        vocab_size=config.integer("vocab_size", 103168),
        hidden_size=config.integer("hidden_size", 4096),
        intermediate_size=config.integer("intermediate_size", 11008),
        layers=config.integer("num_hidden_layers", 32, most=_MOST_LAYERS),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        bias=config.flag("bias", True),
        tied_head=config.flag("tie_word_embeddings", False) or tied_head,
        rope=_read_rope(config),
    )
    config.choice("hidden_act", "silu", ["silu"])
    config.choice("rope_pos_id_version", "default", ["default"])
    if spec.hidden_size % heads or spec.head_dim % 2:
        raise config.error("hidden_size", f"an even multiple of {heads} heads", spec.hidden_size)
    if heads % spec.kv_heads:
        raise config.error("num_key_value_heads", f"a divisor of {heads} heads", spec.kv_heads)
    if spec.head_dim == 2 and spec.rope.scaling == "dynamic":
        raise config.error("hidden_size", f"more than 2 for each of {heads} heads under dynamic rope", spec.hidden_size)
    return spec


def _read_rope(config: Section) -> RopeSpec:
    theta = config.number("rope_theta", 10000)
    max_positions = config.integer("max_position_embeddings", 2048)
    if config.values.get("rope_scaling") is None:
        return RopeSpec(theta, "none", 1.0, max_positions)
    scaling = config.section("rope_scaling")
    kind = scaling.choice("type", None, ["linear", "dynamic"])
    factor = scaling.number("factor")
    if factor < 1:
        raise scaling.error("factor", "at least 1", factor)
    return RopeSpec(theta, "dynamic" if kind == "dynamic" else "linear", factor, max_positions)


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """A vision transformer: class token, learned positions, pre-norm blocks, no final norm."""

    image_size: int
    patch_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    eps: float
    qkv_bias: bool
    qk_normalization: bool
    norm: Literal["layer_norm", "rms_norm"]
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "selu"]

    @property
    def native_grid(self) -> int:
        """Patches along a side at the size that the position embedding was learned for."""
        return self.image_size // self.patch_size


_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh", "relu", "selu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "selu": "selu",
}


def read_vision(config: Section) -> VisionSpec:
    """An InternViT configuration; absent keys take the reference's defaults, which are those of its 6 B tower."""
    if config.integer("num_channels", 3) != 3:
        raise CheckpointError(f"{config.where}: num_channels must be 3")
    spec = VisionSpec(
        image_size=config.integer("image_size", 224),
        patch_size=config.integer("patch_size", 14),
        hidden_size=config.integer("hidden_size", 3200),
        intermediate_size=config.integer("intermediate_size", 12800),
        layers=config.integer("num_hidden_layers", 48, most=_MOST_LAYERS),
        heads=config.integer("num_attention_heads", 25),
        eps=config.number("layer_norm_eps", 1e-6),
        qkv_bias=config.flag("qkv_bias", False),
        qk_normalization=config.flag("qk_normalization", True),
        norm="layer_norm"
        if config.choice("norm_type", "rms_norm", ["layer_norm", "rms_norm"]) == "layer_norm"
        else "rms_norm",
        activation=_ACTIVATIONS[config.choice("hidden_act", "gelu", _ACTIVATIONS)],
    )
    if spec.hidden_size % spec.heads:
        raise config.error("hidden_size", f"a multiple of {spec.heads} heads", spec.hidden_size)
    if not spec.native_grid:
        raise config.error("image_size", f"at least patch_size ({spec.patch_size})", spec.image_size)
    return spec
