"""The families' networks as the engine drives them."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.candidate import Candidate, PlacedPicture
from models.feature_memory import MappedFeatures, set_apart
from models.ixc_reward import network as ixc_reward
from models.ixc_reward.frames import compose
from models.ixc_reward.layout import lay_out_across, lay_out_frames, pad
from models.prefix_cache import CacheCounts
from models.registry import Family
from models.tiling import cut, open_rgb
from models.token_tree import picture_keys
from models.tree_scorer import Prompt, TreeScorer
from models.visual_prm import network as visual_prm
from service.batching import Waiting
from service.device_faults import guarded, raising_device_faults
from service.engine import Attempt, Features, Logits, Scorer
from service.job import Job, JobPicture, PictureKey
from service.picture_numbers import PictureNumbers

# From a picture and the bytes of its files to its features, with pauses.
See = Callable[[JobPicture, Sequence[bytes]], Generator[None, None, torch.Tensor]]
# Bytes of the weights read so far, and of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Running:
    """How a model is to run: on what, in which type, with how many bytes of prefix cache."""

    device: torch.device
    dtype: torch.dtype
    cache_bytes: int
    batch_invariant: bool


def load_scorer(family: Family, directory: Path, running: Running, progress: Progress) -> Scorer:
    """Raises CheckpointError."""
    return _LOAD[family.name](directory, running, progress)


class NetworkScorer:
    """A loaded network: how it sees a picture, scores candidates packed, and one of them plainly."""

    def __init__(self, see: See, tree: TreeScorer, score_plain: Callable[[Candidate], torch.Tensor]) -> None:
        self._see = see
        self._tree = tree
        self._score_plain = score_plain
        self._numbers = PictureNumbers(tree.counts.capacity)

    @property
    def counts(self) -> CacheCounts:
        return self._tree.counts

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        return guarded(self._encode(picture, contents))

    @raising_device_faults
    def begin(self, batch: Sequence[Waiting]) -> "Attempt":
        if batch[0].job.plain:
            return _PlainAttempt(batch, self._score_plain)
        return _PackedAttempt(batch, self._tree, self._numbers)

    def _encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        features = yield from self._see(picture, contents)
        return set_apart(features)


class _PackedAttempt:
    """One packed forward over a batch."""

    def __init__(self, batch: Sequence[Waiting], tree: TreeScorer, numbers: PictureNumbers) -> None:
        rows = {entry.job.key(picture): picture.tokens for entry in batch for picture in entry.pictures}
        known = {key: numbers.of(key, count) for key, count in rows.items()}
        self._scoring = tree.begin([_prompt(e.job, index, known) for e in batch for index in e.candidates])
        wanted = set(self._scoring.pictures)
        self._wanted = {key: number for key, number in known.items() if number in wanted}

    @property
    def pictures(self) -> Collection[PictureKey]:
        return self._wanted.keys()

    @property
    def computed(self) -> Sequence[int]:
        return self._scoring.computed

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        return guarded(self._scoring.run({n: _tensor(features[key]) for key, n in self._wanted.items()}))

    def close(self) -> None:
        self._scoring.close()


class _PlainAttempt:
    """Each candidate by the oracle."""

    def __init__(self, batch: Sequence[Waiting], score: Callable[[Candidate], torch.Tensor]) -> None:
        self._batch, self._score = batch, score
        self.pictures: Collection[PictureKey] = {e.job.key(picture) for e in batch for picture in e.pictures}
        self.computed: Sequence[int] = [e.job.tokens(index) for e in batch for index in e.candidates]

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        return guarded(self._run(features))

    def close(self) -> None:
        """Nothing is held."""

    def _run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        logits = []
        for entry in self._batch:
            for index in entry.candidates:
                logits.append(self._score(_candidate(entry.job, index, features)).cpu().numpy())
                yield
        return logits


def _prompt(job: Job, index: int, numbers: Mapping[PictureKey, int]) -> Prompt:
    keys = job.ids(index).astype(np.int64)
    for picture in job.pictures_of(index):
        rows = picture_keys(numbers[job.key(picture)], picture.tokens)
        keys[picture.offset : picture.offset + picture.tokens] = rows
    return Prompt(keys, job.readouts(index))


def _candidate(job: Job, index: int, features: Mapping[PictureKey, Features]) -> Candidate:
    pictures = job.pictures_of(index)
    placed = tuple(PlacedPicture(picture.offset, _tensor(features[job.key(picture)])) for picture in pictures)
    return Candidate(job.ids(index), job.readouts(index), placed)


def _tensor(features: Features) -> torch.Tensor:
    if isinstance(features, MappedFeatures):
        return features.tensor()
    assert isinstance(features, torch.Tensor)
    return features


def _load_visual_prm(directory: Path, running: Running, progress: Progress) -> NetworkScorer:
    model = visual_prm.load(directory, running.dtype, running.device, progress)

    def see(picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, torch.Tensor]:
        (content,) = contents
        tiles = cut(open_rgb(content), picture.grid, model.spec.tile_size, model.spec.thumbnail)
        return visual_prm.see_picture(model, tiles)

    tree = TreeScorer(model.decoder, model.labels, running.cache_bytes, invariant=running.batch_invariant)
    return NetworkScorer(see, tree, partial(visual_prm.score_plain, model))


def _load_ixc_reward(directory: Path, running: Running, progress: Progress) -> NetworkScorer:
    model = ixc_reward.load(directory, running.dtype, running.device, progress)
    tile_size = model.spec.tile_size

    def see(picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, torch.Tensor]:
        images = [open_rgb(content) for content in contents]
        if picture.frames:
            image = compose(images, tile_size)
            layout = lay_out_frames(*image.size, tile_size)
        else:
            (image,) = images
            layout = lay_out_across(*image.size, tile_size, max(picture.grid))
        return ixc_reward.see_picture(model, pad(image, layout))

    tree = TreeScorer(model.decoder, model.head, running.cache_bytes, invariant=running.batch_invariant)
    return NetworkScorer(see, tree, partial(ixc_reward.score_plain, model))


def _load_classifier(directory: Path, running: Running, progress: Progress) -> Scorer:
    # transformers takes seconds to import, which nobody should wait for who serves none of its models.
    from service.classifier_scorer import load

    return load(directory, running, progress)


# By the family's name in the registry.
_LOAD: dict[str, Callable[[Path, Running, Progress], Scorer]] = {
    "visual_prm": _load_visual_prm,
    "ixc_reward": _load_ixc_reward,
    "sequence_classifier": _load_classifier,
}
