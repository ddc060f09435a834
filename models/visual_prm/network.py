"""VisualPRM in torch: tensor names, the projector between its two halves, and the read-out of step scores."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.candidate import Candidate
from models.decoder import Decoder, build_decoder, decoder_shapes, pack_decoder
from models.pausing import run_through
from models.readout import read_out, read_out_plain
from models.tiling import MEAN, STD
from models.tokenizer import load_tokenizer
from models.vision import VisionTower, build_vision, merge_patches, patch_features, see_in_parts, vision_shapes
from models.vision import normalise as normalise_by
from models.visual_prm.prompt import label_ids
from models.visual_prm.spec import VisualPRMSpec, read_spec
from models.weights import Wanted, load_weights

# torch's default, which the reference leaves in the projector; the tower's own norms have another.
_PROJECTOR_EPS = 1e-5

_VISION = "vision_model."
_LANGUAGE = "language_model."
_HEAD = "language_model.output.weight"
_EMBEDDINGS = "language_model.model.tok_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Projector:
    """LayerNorm, linear, GELU, linear: from shuffled patch features to the decoder's width."""

    norm: torch.Tensor
    norm_bias: torch.Tensor
    first: torch.Tensor
    first_bias: torch.Tensor
    second: torch.Tensor
    second_bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class VisualPRM:
    """The loaded model; `labels` are the head's rows for `+` and `-`, (2, dim)."""

    spec: VisualPRMSpec
    vision: VisionTower
    projector: Projector
    decoder: Decoder
    labels: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def dtype(self) -> torch.dtype:
        return self.labels.dtype


def tensor_shapes(spec: VisualPRMSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of a checkpoint; a tied head has no tensor of its own."""
    shuffled, width = spec.vision.hidden_size * spec.shuffle**2, spec.decoder.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "mlp1.0.weight": (shuffled,),
        "mlp1.0.bias": (shuffled,),
        "mlp1.1.weight": (width, shuffled),
        "mlp1.1.bias": (width,),
        "mlp1.3.weight": (width, width),
        "mlp1.3.bias": (width,),
    }
    shapes |= {_VISION + name: shape for name, shape in vision_shapes(spec.vision).items()}
    shapes |= {_LANGUAGE + name: shape for name, shape in decoder_shapes(spec.decoder).items()}
    if not spec.decoder.tied_head:
        shapes[_HEAD] = (spec.decoder.vocab_size, width)
    return shapes


def load(
    directory: Path,
    dtype: torch.dtype,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> VisualPRM:
    """Load a checkpoint's weights into `dtype` on `device`; of the head only the two label rows are kept.

    Raises CheckpointError, which names the file and the tensor or key.
    """
    spec = read_spec(directory)
    labels = label_ids(load_tokenizer(directory))
    wanted = {
        name: Wanted(shape, rows=labels if name == _HEAD else None) for name, shape in tensor_shapes(spec).items()
    }
    tensors = load_weights(directory, wanted, dtype=dtype, device=device, progress=progress)
    if spec.decoder.tied_head:
        tensors[_HEAD] = tensors[_EMBEDDINGS][list(labels)]
    pack_decoder(spec.decoder, tensors, _LANGUAGE)
    return build(spec, tensors)


def build(spec: VisualPRMSpec, tensors: Mapping[str, torch.Tensor]) -> VisualPRM:
    """Arrange the tensors named by `tensor_shapes`, the head cut down to the rows of `+` and `-`."""
    return VisualPRM(
        spec=spec,
        vision=build_vision(spec.vision, tensors, _VISION),
        projector=Projector(
            norm=tensors["mlp1.0.weight"],
            norm_bias=tensors["mlp1.0.bias"],
            first=tensors["mlp1.1.weight"],
            first_bias=tensors["mlp1.1.bias"],
            second=tensors["mlp1.3.weight"],
            second_bias=tensors["mlp1.3.bias"],
        ),
        decoder=build_decoder(spec.decoder, tensors, _LANGUAGE),
        labels=tensors[_HEAD],
    )


def picture_features(model: VisualPRM, tiles: npt.NDArray[np.uint8]) -> torch.Tensor:
    """RGB tiles (tiles, size, size, 3) → (tiles · tokens a tile, dim), in reading order of tiles and tokens."""
    return run_through(see_picture(model, tiles))


def see_picture(model: VisualPRM, tiles: npt.NDArray[np.uint8]) -> Generator[None, None, torch.Tensor]:
    """`picture_features`, with pauses."""

    def see(part: torch.Tensor) -> torch.Tensor:
        return _tile_features(model, normalise(part.to(model.device), model.dtype))

    features = yield from see_in_parts(torch.tensor(tiles), see, model.device)
    return features.flatten(0, 1)


def normalise(tiles: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 (tiles, size, size, 3) → (tiles, 3, size, size), by ImageNet's mean and deviation."""
    return normalise_by(tiles, MEAN, STD, dtype)


def _tile_features(model: VisualPRM, pixels: torch.Tensor) -> torch.Tensor:
    """(tiles, 3, size, size) → (tiles, tokens a tile, dim)."""
    spec, projector = model.spec, model.projector
    patches = patch_features(model.vision, pixels, spec.select_layer)
    x = shuffle_patches(patches, spec.shuffle, spec.shuffle_version)
    x = functional.layer_norm(x, x.shape[-1:], projector.norm, projector.norm_bias, _PROJECTOR_EPS)
    x = functional.gelu(functional.linear(x, projector.first, projector.first_bias))
    return functional.linear(x, projector.second, projector.second_bias)


def shuffle_patches(patches: torch.Tensor, side: int, version: str) -> torch.Tensor:
    """(tiles, grid², c) → (tiles, (grid / side)², side² · c): each square of patches becomes one row.

    A square's patches are concatenated in reading order. `v1` leaves the squares in column order.
    """
    merged = merge_patches(patches, side)
    return (merged if version == "v2" else merged.transpose(1, 2)).flatten(1, 2)


def score(model: VisualPRM, candidates: Sequence[Candidate]) -> list[npt.NDArray[np.float32]]:
    """One packed forward → for each candidate its (read-outs, 2) float32 logits of `+` and `-`."""
    return read_out(model.decoder, model.labels, candidates)


def score_plain(model: VisualPRM, candidate: Candidate) -> torch.Tensor:
    """The same for one candidate, through `plain`: (read-outs, 2) float32 logits, differentiable."""
    return read_out_plain(model.decoder, model.labels, candidate)
