"""The families' networks as the engine drives them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from models.candidate import Candidate, PlacedPicture
from models.ixc_reward import network as ixc_reward
from models.ixc_reward.frames import compose
from models.ixc_reward.layout import lay_out_across, lay_out_frames, pad
from models.registry import Family
from models.tiling import cut, open_rgb
from models.visual_prm import network as visual_prm
from service.batching import Waiting
from service.engine import DeviceFault, Logits, Scorer
from service.job import Job, JobPicture, PictureKey

Params = ParamSpec("Params")
Result = TypeVar("Result")
# Bytes of the weights read so far, and of all.
Progress = Callable[[int, int], None]


def load_scorer(
    family: Family, directory: Path, dtype: torch.dtype, device: torch.device, progress: Progress
) -> Scorer:
    """Raises CheckpointError."""
    return _LOAD[family.name](directory, dtype, device, progress)


def _raising_device_faults(method: Callable[Params, Result]) -> Callable[Params, Result]:
    """A fault of the accelerator is no candidate's fault, and every later call would raise it again."""

    @wraps(method)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except torch.AcceleratorError as error:
            raise DeviceFault(str(error)) from error

    return guarded


class NetworkScorer:
    """A loaded network: how it sees a picture, scores candidates packed, and one of them plainly."""

    def __init__(
        self,
        see: Callable[[JobPicture, Sequence[bytes]], torch.Tensor],
        score: Callable[[Sequence[Candidate]], list[Logits]],
        score_plain: Callable[[Candidate], torch.Tensor],
    ) -> None:
        self._see = see
        self._score = score
        self._score_plain = score_plain

    @_raising_device_faults
    @torch.inference_mode()
    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> torch.Tensor:
        return self._see(picture, contents)

    @_raising_device_faults
    @torch.inference_mode()
    def score(self, batch: Sequence[Waiting], features: Mapping[PictureKey, object]) -> list[Logits]:
        candidates = [_candidate(entry.job, index, features) for entry in batch for index in entry.candidates]
        if batch[0].job.plain:
            return [self._score_plain(candidate).cpu().numpy() for candidate in candidates]
        return self._score(candidates)


def _candidate(job: Job, index: int, features: Mapping[PictureKey, object]) -> Candidate:
    placed = []
    for picture in job.pictures_of(index):
        rows = features[job.key(picture)]
        assert isinstance(rows, torch.Tensor)
        placed.append(PlacedPicture(picture.offset, rows))
    return Candidate(job.ids(index), job.readouts(index), tuple(placed))


def _load_visual_prm(directory: Path, dtype: torch.dtype, device: torch.device, progress: Progress) -> NetworkScorer:
    model = visual_prm.load(directory, dtype, device, progress)

    def see(picture: JobPicture, contents: Sequence[bytes]) -> torch.Tensor:
        (content,) = contents
        tiles = cut(open_rgb(content), picture.grid, model.spec.tile_size, model.spec.thumbnail)
        return visual_prm.picture_features(model, tiles)

    return NetworkScorer(see, partial(visual_prm.score, model), partial(visual_prm.score_plain, model))


def _load_ixc_reward(directory: Path, dtype: torch.dtype, device: torch.device, progress: Progress) -> NetworkScorer:
    model = ixc_reward.load(directory, dtype, device, progress)
    tile_size = model.spec.tile_size

    def see(picture: JobPicture, contents: Sequence[bytes]) -> torch.Tensor:
        images = [open_rgb(content) for content in contents]
        if picture.frames:
            image = compose(images, tile_size)
            layout = lay_out_frames(*image.size, tile_size)
        else:
            (image,) = images
            layout = lay_out_across(*image.size, tile_size, max(picture.grid))
        return ixc_reward.picture_features(model, pad(image, layout))

    return NetworkScorer(see, partial(ixc_reward.score, model), partial(ixc_reward.score_plain, model))


# By the family's name in the registry.
_LOAD = {"visual_prm": _load_visual_prm, "ixc_reward": _load_ixc_reward}
