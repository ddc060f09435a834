"""VisualPRM's forward once more, from its reference's facts alone: numpy in float64, nothing of `models` in it.

It reads `config.json` and the safetensors files itself, is slow, and is meant to be read beside the facts page.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Config = Mapping[str, Any]

_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_erf = np.vectorize(math.erf, otypes=[np.float64])


def read_tensors(directory: Path) -> dict[str, Array]:
    """Every tensor of every safetensors file of a folder, in float64."""
    tensors: dict[str, Array] = {}
    for file in sorted(directory.glob("*.safetensors")):
        raw = file.read_bytes()
        data = 8 + int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:data]).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                flat = np.frombuffer(raw[data + start : data + end], _STORED[entry["dtype"]])
                if entry["dtype"] == "BF16":
                    flat = (flat.astype("<u4") << 16).view("<f4")
                tensors[name] = flat.astype(np.float64).reshape(entry["shape"])
    return tensors


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name → shape of all that the reference's modules hold, by the rules of facts section 2."""
    vision, language = config["vision_config"], config["llm_config"]
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    patch, grid = vision["patch_size"], vision["image_size"] // vision["patch_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.position_embedding": (1, 1 + grid * grid, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "vision_model.embeddings.patch_embedding.bias": (width,),
    }
    for layer in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{layer}."
        for name in ("norm1", "norm2"):
            shapes[f"{at}{name}.weight"] = (width,)
            if vision.get("norm_type", "rms_norm") == "layer_norm":
                shapes[f"{at}{name}.bias"] = (width,)
        shapes[f"{at}attn.qkv.weight"] = (3 * width, width)
        if vision.get("qkv_bias", False):
            shapes[f"{at}attn.qkv.bias"] = (3 * width,)
        if vision.get("qk_normalization", True):
            shapes |= {f"{at}attn.q_norm.weight": (width,), f"{at}attn.k_norm.weight": (width,)}
        shapes |= {f"{at}attn.proj.weight": (width, width), f"{at}attn.proj.bias": (width,)}
        shapes |= {f"{at}mlp.fc1.weight": (inner, width), f"{at}mlp.fc1.bias": (inner,)}
        shapes |= {f"{at}mlp.fc2.weight": (width, inner), f"{at}mlp.fc2.bias": (width,)}
        shapes |= {f"{at}ls1": (width,), f"{at}ls2": (width,)}
    shuffled = width * int(1 / config.get("downsample_ratio", 0.5)) ** 2
    hidden, inner = language["hidden_size"], language["intermediate_size"]
    shapes |= {"mlp1.0.weight": (shuffled,), "mlp1.0.bias": (shuffled,)}
    shapes |= {"mlp1.1.weight": (hidden, shuffled), "mlp1.1.bias": (hidden,)}
    shapes |= {"mlp1.3.weight": (hidden, hidden), "mlp1.3.bias": (hidden,)}
    heads = language["num_attention_heads"]
    rows = (heads + 2 * (language.get("num_key_value_heads") or heads)) * (hidden // heads)
    shapes["language_model.model.tok_embeddings.weight"] = (language["vocab_size"], hidden)
    for layer in range(language["num_hidden_layers"]):
        at = f"language_model.model.layers.{layer}."
        shapes |= {f"{at}attention.wqkv.weight": (rows, hidden), f"{at}attention.wo.weight": (hidden, hidden)}
        if language.get("bias", True):
            shapes |= {f"{at}attention.wqkv.bias": (rows,), f"{at}attention.wo.bias": (hidden,)}
        shapes |= {f"{at}feed_forward.w1.weight": (inner, hidden), f"{at}feed_forward.w3.weight": (inner, hidden)}
        shapes[f"{at}feed_forward.w2.weight"] = (hidden, inner)
        shapes |= {f"{at}attention_norm.weight": (hidden,), f"{at}ffn_norm.weight": (hidden,)}
    shapes["language_model.model.norm.weight"] = (hidden,)
    if not _is_tied(config):
        shapes["language_model.output.weight"] = (language["vocab_size"], hidden)
    return shapes


def _is_tied(config: Config) -> bool:
    return any(section.get("tie_word_embeddings", False) for section in (config, config["llm_config"]))


class Oracle:
    """One checkpoint. `config` may stand in for the file's own, to see what a key is worth."""

    def __init__(self, directory: Path, config: Config | None = None) -> None:
        text = (directory / "config.json").read_text(encoding="utf-8")
        self.config: Config = json.loads(text) if config is None else config
        self.tensors = read_tensors(directory)

    def score(
        self, ids: Sequence[int], readouts: Sequence[int], labels: tuple[int, int], context: int, tiles: Array | None
    ) -> Array:
        """Logits of the labels, (read-outs, 2).

        `tiles` (tiles, size, size, 3) uint8 are all pictures' in order; their rows go where `context` ids stand.
        """
        x = self.tensors["language_model.model.tok_embeddings.weight"][np.asarray(ids)]
        if tiles is not None:
            x[np.asarray(ids) == context] = self.features(tiles).reshape(-1, x.shape[1])
        x = self.decode(x)[np.asarray(readouts)]
        eps = self.config["llm_config"].get("rms_norm_eps", 1e-6)
        x = _rms_norm(x, self.tensors["language_model.model.norm.weight"], eps)
        tied = "language_model.model.tok_embeddings.weight"
        head = tied if _is_tied(self.config) else "language_model.output.weight"
        logits: Array = x @ self.tensors[head][list(labels)].T
        return logits

    def features(self, tiles: Array) -> Array:
        """(tiles, size, size, 3) uint8 → (tiles, tokens a tile, decoder width)."""
        pixels = (tiles / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        x = self.tower(pixels)
        side = math.isqrt(x.shape[1])
        x = self.shuffle(x.reshape(len(x), side, side, -1))
        x = x.reshape(len(x), -1, x.shape[-1])
        x = _layer_norm(x, self.tensors["mlp1.0.weight"], self.tensors["mlp1.0.bias"], 1e-5)
        return self._linear("mlp1.3", _gelu(self._linear("mlp1.1", x)))

    def tower(self, pixels: Array) -> Array:
        """Normalised (tiles, size, size, 3) → the chosen hidden state's patches (tiles, patches, width)."""
        vision = self.config["vision_config"]
        at = "vision_model.embeddings."
        kernel = self.tensors[f"{at}patch_embedding.weight"]
        size = vision.get("patch_size", 14)
        side = pixels.shape[1] // size
        cut = pixels[:, : side * size, : side * size].reshape(len(pixels), side, size, side, size, 3)
        patches = np.einsum("nyhxwc,dchw->nyxd", cut, kernel, optimize=True).reshape(len(pixels), side * side, -1)
        patches = patches + self.tensors[f"{at}patch_embedding.bias"]
        classes = np.broadcast_to(self.tensors[f"{at}class_embedding"], (len(pixels), 1, patches.shape[-1]))
        learned = self.tensors[f"{at}position_embedding"][0]
        native = vision.get("image_size", 224) // size
        places = _resize_bicubic(learned[1:].reshape(native, native, -1), side).reshape(side * side, -1)
        x = np.concatenate([classes, patches], axis=1) + np.concatenate([learned[:1], places])
        states = [x]
        for layer in range(vision["num_hidden_layers"]):
            at = f"vision_model.encoder.layers.{layer}."
            x = x + self._vision_attention(at, self._vision_norm(f"{at}norm1", x)) * self.tensors[f"{at}ls1"]
            inner = _ACTIVATIONS[vision.get("hidden_act", "gelu")](
                self._linear(f"{at}mlp.fc1", self._vision_norm(f"{at}norm2", x))
            )
            x = x + self._linear(f"{at}mlp.fc2", inner) * self.tensors[f"{at}ls2"]
            states.append(x)
        y: Array = states[self.config.get("select_layer", -1)][:, 1:]
        return y

    def shuffle(self, x: Array) -> Array:
        """InternVL's pixel_shuffle, its views and permutations one by one; v1 is left transposed."""
        scale = self.config.get("downsample_ratio", 0.5)
        n, w, h, c = x.shape
        x = x.reshape(n, w, int(h * scale), int(c / scale)).transpose(0, 2, 1, 3)
        x = x.reshape(n, int(h * scale), int(w * scale), int(c / (scale * scale)))
        return x if self.config.get("ps_version", "v1") == "v1" else x.transpose(0, 2, 1, 3)

    def decode(self, x: Array) -> Array:
        """Embedded tokens (tokens, width) → hidden states before the final norm."""
        language = self.config["llm_config"]
        eps = language.get("rms_norm_eps", 1e-6)
        for layer in range(language["num_hidden_layers"]):
            at = f"language_model.model.layers.{layer}."
            x = x + self._attention(at, _rms_norm(x, self.tensors[f"{at}attention_norm.weight"], eps))
            normal = _rms_norm(x, self.tensors[f"{at}ffn_norm.weight"], eps)
            gate, up = (self._linear(f"{at}feed_forward.{name}", normal) for name in ("w1", "w3"))
            x = x + self._linear(f"{at}feed_forward.w2", gate / (1 + np.exp(-gate)) * up)
        return x

    def _attention(self, at: str, x: Array) -> Array:
        language = self.config["llm_config"]
        heads = language["num_attention_heads"]
        kv_heads = language.get("num_key_value_heads") or heads
        width = x.shape[1] // heads
        rows = self._linear(f"{at}attention.wqkv", x)
        angles = rope_angles(language, width, len(x))
        future = np.triu(np.full((len(x), len(x)), -np.inf), 1)
        outputs = []
        for head in range(heads):
            per_group = heads // kv_heads
            group = rows[:, (head // per_group) * (per_group + 2) * width :]
            within = head % per_group
            q = _rotate(group[:, within * width : (within + 1) * width], angles)
            k = _rotate(group[:, per_group * width : (per_group + 1) * width], angles)
            v = group[:, (per_group + 1) * width : (per_group + 2) * width]
            outputs.append(_softmax(q @ k.T / math.sqrt(width) + future) @ v)
        return self._linear(f"{at}attention.wo", np.concatenate(outputs, axis=1))

    def _vision_attention(self, at: str, x: Array) -> Array:
        vision = self.config["vision_config"]
        heads = vision["num_attention_heads"]
        q, k, v = np.split(self._linear(f"{at}attn.qkv", x), 3, axis=-1)
        if vision.get("qk_normalization", True):
            eps = vision.get("layer_norm_eps", 1e-6)
            q = _rms_norm(q, self.tensors[f"{at}attn.q_norm.weight"], eps)
            k = _rms_norm(k, self.tensors[f"{at}attn.k_norm.weight"], eps)
        outputs = [
            _softmax(one_q @ one_k.swapaxes(-1, -2) / math.sqrt(one_q.shape[-1])) @ one_v
            for one_q, one_k, one_v in zip(*(np.split(part, heads, axis=-1) for part in (q, k, v)), strict=True)
        ]
        return self._linear(f"{at}attn.proj", np.concatenate(outputs, axis=-1))

    def _vision_norm(self, name: str, x: Array) -> Array:
        vision = self.config["vision_config"]
        eps, weight = vision.get("layer_norm_eps", 1e-6), self.tensors[f"{name}.weight"]
        if vision.get("norm_type", "rms_norm") == "layer_norm":
            return _layer_norm(x, weight, self.tensors[f"{name}.bias"], eps)
        return _rms_norm(x, weight, eps)

    def _linear(self, name: str, x: Array) -> Array:
        y: Array = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors.get(f"{name}.bias", 0.0)


def rope_angles(language: Config, width: int, length: int) -> Array:
    """(tokens, width / 2): positions times frequencies, scaled as the whole sequence's length asks for.

    In float32 like the reference's, whatever the rest is in: at position 2000 that alone is worth 6e-6 of a score.
    """
    base = float(language.get("rope_theta", 10000))
    limit, scaling = language.get("max_position_embeddings", 2048), language.get("rope_scaling")
    positions = np.arange(length, dtype=np.float32)
    if scaling and scaling["type"] == "linear":
        positions = positions / np.float32(scaling["factor"])
    if scaling and scaling["type"] == "dynamic" and length > limit:
        factor = scaling["factor"]
        base *= (factor * length / limit - (factor - 1)) ** (width / (width - 2))
    frequencies = 1 / np.float32(base) ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    return np.outer(positions, frequencies)


def _rotate(x: Array, angles: Array) -> Array:
    first, second = np.split(x, 2, axis=1)
    wide = angles.astype(np.float64)
    cos, sin = np.cos(wide), np.sin(wide)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    y: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight
    return y


def _layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    y: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias
    return y


def _softmax(x: Array) -> Array:
    x = np.exp(x - x.max(-1, keepdims=True))
    y: Array = x / x.sum(-1, keepdims=True)
    return y


def _gelu(x: Array) -> Array:
    y: Array = x * 0.5 * (1 + _erf(x / math.sqrt(2)))
    return y


def _gelu_tanh(x: Array) -> Array:
    y: Array = x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return y


def _relu(x: Array) -> Array:
    y: Array = np.maximum(x, 0)
    return y


def _selu(x: Array) -> Array:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    y: Array = scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y


_ACTIVATIONS = {"gelu": _gelu, "gelu_new": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh, "relu": _relu, "selu": _selu}


def _resize_bicubic(grid: Array, side: int) -> Array:
    """(native, native, width) → (side, side, width): cubic convolution with A = -0.75, edges repeated."""
    taps = _bicubic_taps(len(grid), side)
    y: Array = np.einsum("yi,xj,ijd->yxd", taps, taps, grid, optimize=True)
    return y


def _bicubic_taps(native: int, side: int) -> Array:
    taps = np.zeros((side, native))
    for target in range(side):
        centre = (target + 0.5) * native / side - 0.5
        for source in range(math.floor(centre) - 1, math.floor(centre) + 3):
            taps[target, min(max(source, 0), native - 1)] += _cubic(abs(centre - source))
    return taps


def _cubic(distance: float, a: float = -0.75) -> float:
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
