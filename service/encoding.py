"""From a request to a job: pictures checked, prompts turned into token ids. Runs on a thread, free of torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.checkpoint import Checkpoint, CheckpointError, tokenizer_digest
from models.encoded import EncodedCandidate, EncodedGroup, MarkerCount, Unscorable
from models.registry import identify
from models.tiling import Grid, choose_grid, count_tiles
from models.tokenizer import load_tokenizer
from models.visual_prm.prompt import StepPrompt
from models.visual_prm.spec import VisualPRMSpec, read_spec
from models.visual_prm.steps import SEPARATOR, count_merged, join_steps, merge_steps, split_steps, step_spans
from service.errors import InvalidRequest
from service.images import Image, ImageStore, is_readable
from service.job import JobCandidate, JobPicture
from steelyard.schema import ScoreStepsRequest, Status, StepScores

# How far past `max_position_embeddings` dynamic NTK may stretch a prompt; the reference has no bound at all.
_STRETCH = 4


@dataclass(frozen=True, slots=True)
class StepModel:
    """A process reward model as a gateway knows it."""

    name: str
    kind: Literal["steps", "outcome"]
    family: str
    directory: Path
    revision: str | None
    tokenizer_digest: str
    spec: VisualPRMSpec
    prompt: StepPrompt
    max_tokens: int

    @property
    def max_tiles(self) -> int:
        return self.spec.max_tiles

    def grid(self, image: Image, max_tiles: int | None) -> Grid:
        """How a picture is cut; without dynamic tiling it stays whole."""
        spec = self.spec
        limit = max_tiles or (spec.max_tiles if spec.dynamic_tiles else 1)
        return choose_grid(image.width, image.height, spec.tile_size, min(spec.min_tiles, limit), limit)


@dataclass(frozen=True, slots=True)
class ReadyGroup:
    """What a job needs and what its answer needs.

    `candidates` are the distinct prompts; `places[i]` the caller's candidates that the i-th stands for. `spans`,
    `details` and `prompt_tokens` are by the caller's index. `refused` are those that no forward will see.
    """

    prefix: bytes
    candidates: tuple[JobCandidate, ...]
    pictures: tuple[JobPicture, ...]
    blobs: Mapping[str, bytes]
    places: tuple[tuple[int, ...], ...]
    spans: Mapping[int, list[tuple[int, int]]]
    details: Mapping[int, str | None]
    prompt_tokens: Mapping[int, int]
    refused: tuple[StepScores, ...]


def read_model(name: str, checkpoint: Checkpoint, max_tokens: int | None) -> StepModel:
    """What a gateway needs of a checkpoint: all but its weights. Raises CheckpointError."""
    directory = checkpoint.directory
    family = identify(directory)
    if family.name != "visual_prm":
        raise CheckpointError(f"{directory}: {family.name} checkpoints are not served in this version")
    spec = read_spec(directory)
    return StepModel(
        name=name,
        kind=family.kind,
        family=family.name,
        directory=directory,
        revision=checkpoint.revision,
        tokenizer_digest=tokenizer_digest(directory),
        spec=spec,
        prompt=StepPrompt(spec, load_tokenizer(directory)),
        max_tokens=max_tokens or _STRETCH * spec.decoder.rope.max_positions,
    )


def ready_group(
    model: StepModel, request: ScoreStepsRequest, images: ImageStore, skip: Collection[int] = ()
) -> ReadyGroup:
    """Encode a request's candidates but those in `skip`.

    Raises InvalidRequest for markers that do not match the pictures, and what the image store raises.
    """
    pictures = images.resolve(request.images)
    chosen = [index for index in range(len(request.candidates)) if index not in skip]
    if not all(is_readable(picture) for picture in pictures):
        refused = tuple(_refuse(index, "bad_image", "a picture of the group cannot be decoded") for index in chosen)
        return ReadyGroup(b"", (), (), {}, (), {}, {}, {}, refused)
    hopeless = {index for index in chosen if _is_hopeless(model, request, index)}
    chosen = [index for index in chosen if index not in hopeless]
    steps = {index: _steps(request, index) for index in chosen}
    ranges = {index: merge_steps(parts, request.max_steps) for index, parts in steps.items()}
    grids = [model.grid(picture, request.max_tiles) for picture in pictures]
    tiles = [count_tiles(grid, model.spec.thumbnail) for grid in grids]
    texts = {index: tuple(join_steps(steps[index], ranges[index])) for index in chosen}
    positions = {text: position for position, text in enumerate(dict.fromkeys(texts.values()))}
    try:
        encoded = model.prompt.encode_group(
            request.question,
            tiles,
            list(positions),
            request.control_tokens,
            model.max_tokens,
        )
    except MarkerCount as error:
        raise InvalidRequest(f"question: {error}") from None
    too_many = f"its steps alone make the prompt longer than {model.max_tokens} tokens"
    by_index = {index: encoded.candidates[positions[texts[index]]] for index in chosen}
    distinct = _distinct(by_index)
    return ReadyGroup(
        prefix=encoded.prefix.tobytes(),
        candidates=tuple(JobCandidate(suffix, readouts) for suffix, readouts in distinct),
        pictures=_job_pictures(pictures, grids, tiles, encoded),
        blobs={picture.id: picture.content for picture in pictures},
        places=tuple(tuple(places) for places in distinct.values()),
        spans={i: step_spans(steps[i], ranges[i]) for i in chosen if isinstance(by_index[i], EncodedCandidate)},
        details={i: found.detail for i, found in by_index.items() if isinstance(found, EncodedCandidate)},
        prompt_tokens={index: encoded.prompt_tokens(positions[texts[index]]) for index in chosen},
        refused=(
            *(_refuse(index, "too_long", too_many) for index in hopeless),
            *(_refuse(i, it.reason, it.detail) for i, it in by_index.items() if isinstance(it, Unscorable)),
        ),
    )


def _is_hopeless(model: StepModel, request: ScoreStepsRequest, index: int) -> bool:
    """Whether the number of steps alone makes a prompt too long, so that millions of them are never looked at."""
    candidate = request.candidates[index]
    steps = len(candidate) if isinstance(candidate, list) else candidate.count(SEPARATOR) + 1
    merged = 1 if request.mode == "whole" else count_merged(steps, request.max_steps)
    return merged * model.prompt.least_step_tokens > model.max_tokens


def _steps(request: ScoreStepsRequest, index: int) -> list[str]:
    """The steps that are scored, before merging; `whole` is one step."""
    candidate = request.candidates[index]
    if request.mode == "whole":
        return [candidate if isinstance(candidate, str) else SEPARATOR.join(candidate)]
    return split_steps(candidate) if isinstance(candidate, str) else list(candidate)


def _distinct(encoded: Mapping[int, EncodedCandidate | Unscorable]) -> dict[tuple[bytes, bytes], list[int]]:
    """Each prompt once, with the indices that it stands for, in the order of its first."""
    places: dict[tuple[bytes, bytes], list[int]] = {}
    for index, found in encoded.items():
        if isinstance(found, EncodedCandidate):
            places.setdefault((found.suffix.tobytes(), found.readouts.tobytes()), []).append(index)
    return places


def _job_pictures(
    pictures: Sequence[Image], grids: Sequence[Grid], tiles: Sequence[int], encoded: EncodedGroup
) -> tuple[JobPicture, ...]:
    return tuple(
        JobPicture(picture.id, grid, count, run.offset, run.tokens)
        for picture, grid, count, run in zip(pictures, grids, tiles, encoded.pictures, strict=False)
    )


def _refuse(index: int, status: Status, detail: str) -> StepScores:
    return StepScores(index=index, status=status, retryable=False, detail=detail)
