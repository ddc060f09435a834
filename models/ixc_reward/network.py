"""IXC-2.5-Reward in torch: tensor names, the projector between its two halves, and the read-out of the outcome."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.candidate import Candidate
from models.clip import build_clip, clip_shapes
from models.decoder import Decoder, build_decoder, decoder_shapes, pack_decoder
from models.ixc_reward.layout import MEAN, STD
from models.ixc_reward.spec import IXCRewardSpec, read_spec
from models.linear import Linear, build_linear, linear_shapes, project
from models.pausing import run_through
from models.readout import read_out, read_out_plain
from models.vision import VisionTower, merge_patches, normalise, patch_features, see_in_parts
from models.weights import Wanted, is_stale_buffer, load_weights

_VISION = "vit.vision_tower.vision_model."
_FIRST, _SECOND = "vision_proj.0", "vision_proj.2"
_NEWLINE, _SEPARATOR = "plora_sub_GN", "plora_glb_GN"
_HEAD = "score.weight"


@dataclass(frozen=True, slots=True)
class IXCReward:
    """The loaded model.

    `newline` and `separator` are learned rows of merged patch features, (merged width,); `head` is (1, dim).
    """

    spec: IXCRewardSpec
    vision: VisionTower
    newline: torch.Tensor
    separator: torch.Tensor
    first: Linear
    second: Linear
    decoder: Decoder
    head: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.head.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.dtype


def tensor_shapes(spec: IXCRewardSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that is read; a checkpoint also has the tower's last norm, which is not run."""
    merged, width = spec.vision.hidden_size * spec.merged**2, spec.decoder.hidden_size
    shapes: dict[str, tuple[int, ...]] = {_SEPARATOR: (1, 1, merged), _NEWLINE: (1, 1, 1, merged), _HEAD: (1, width)}
    shapes |= linear_shapes(_FIRST, width, merged, bias=True) | linear_shapes(_SECOND, width, width, bias=True)
    shapes |= {_VISION + name: shape for name, shape in clip_shapes(spec.vision).items()}
    return shapes | decoder_shapes(spec.decoder)


def load(
    directory: Path,
    dtype: torch.dtype,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> IXCReward:
    """Load a checkpoint's weights into `dtype` on `device`.

    Raises CheckpointError, which names the file and the tensor or key.
    """
    spec = read_spec(directory)
    wanted = {name: Wanted(shape) for name, shape in tensor_shapes(spec).items()}
    tensors = load_weights(directory, wanted, dtype=dtype, device=device, ignored=_is_unread, progress=progress)
    pack_decoder(spec.decoder, tensors, "")
    return build(spec, tensors)


def build(spec: IXCRewardSpec, tensors: Mapping[str, torch.Tensor]) -> IXCReward:
    """Arrange the tensors named by `tensor_shapes`."""
    return IXCReward(
        spec=spec,
        vision=build_clip(spec.vision, tensors, _VISION),
        newline=tensors[_NEWLINE].flatten(),
        separator=tensors[_SEPARATOR].flatten(),
        first=build_linear(tensors, _FIRST),
        second=build_linear(tensors, _SECOND),
        decoder=build_decoder(spec.decoder, tensors, ""),
        head=tensors[_HEAD],
    )


def picture_features(model: IXCReward, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """A padded picture (height, width, 3) → (tokens, dim): the whole view's rows, a separator, the tiles' rows."""
    return run_through(see_picture(model, pixels))


def see_picture(model: IXCReward, pixels: npt.NDArray[np.uint8]) -> Generator[None, None, torch.Tensor]:
    """`picture_features`, with pauses."""
    picture = normalise(torch.tensor(pixels)[None].to(model.device), MEAN, STD)
    tiles = cut(picture, model.spec.tile_size)
    # The whole view of a single tile is that tile.
    views = tiles if len(tiles) == 1 else torch.cat([whole_view(picture, model.spec.tile_size), tiles])
    merged = yield from see_in_parts(views, partial(_merged_features, model), model.device)
    columns = pixels.shape[1] // model.spec.tile_size
    rows = [_close_rows(stitch(merged[:1], 1), model.newline), model.separator[None]]
    rows.append(_close_rows(stitch(merged[-len(tiles) :], columns), model.newline))
    return project(model.second, functional.gelu(project(model.first, torch.cat(rows))))


def whole_view(picture: torch.Tensor, tile_size: int) -> torch.Tensor:
    """Normalised (1, 3, height, width) → (1, 3, size, size), squashed: bicubic and, as the reference, aliased."""
    return functional.interpolate(picture, (tile_size, tile_size), mode="bicubic", align_corners=False)


def cut(picture: torch.Tensor, tile_size: int) -> torch.Tensor:
    """(1, 3, height, width) → (tiles, 3, size, size), row by row."""
    tiles = picture[0].unfold(1, tile_size, tile_size).unfold(2, tile_size, tile_size)  # (3, rows, columns, size, size)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def stitch(tiles: torch.Tensor, columns: int) -> torch.Tensor:
    """(tiles, side, side, width) → (rows · side, columns · side, width): one grid in the picture's reading order."""
    count, side, _, width = tiles.shape
    grid = tiles.view(count // columns, columns, side, side, width)
    return grid.transpose(1, 2).reshape(count // columns * side, columns * side, width)


def score(model: IXCReward, candidates: Sequence[Candidate]) -> list[npt.NDArray[np.float32]]:
    """One packed forward → for each candidate its (read-outs, 1) float32 scores."""
    return read_out(model.decoder, model.head, candidates)


def score_plain(model: IXCReward, candidate: Candidate) -> torch.Tensor:
    """The same for one candidate, through `plain`: (read-outs, 1) float32 scores, differentiable."""
    return read_out_plain(model.decoder, model.head, candidate)


def _merged_features(model: IXCReward, views: torch.Tensor) -> torch.Tensor:
    """(views, 3, size, size) → (views, side, side, merged width)."""
    return merge_patches(patch_features(model.vision, views.to(model.dtype), -1), model.spec.merged)


def _close_rows(grid: torch.Tensor, newline: torch.Tensor) -> torch.Tensor:
    """(rows, columns, width) → (rows · (columns + 1), width): every row ends in a newline."""
    return torch.cat([grid, newline.expand(len(grid), 1, -1)], dim=1).flatten(0, 1)


def _is_unread(name: str) -> bool:
    return is_stale_buffer(name) or name.startswith(f"{_VISION}post_layernorm.")
