"""A process reward model as a gateway knows it: VisualPRM's requests to jobs, its logits to step scores."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.encoded import EncodedCandidate, EncodedGroup, MarkerCount, Unscorable
from models.tiling import Grid, choose_grid, count_tiles
from models.visual_prm.prompt import StepPrompt
from models.visual_prm.spec import VisualPRMSpec
from models.visual_prm.steps import SEPARATOR, count_merged, join_steps, merge_steps, split_steps, step_spans
from service.errors import InvalidRequest
from service.gateway_model import GatewayModel, ReadyGroup, blobs_of, distinct
from service.images import Image, ImageStore, is_readable
from service.job import JobPicture, Outcome
from steelyard.schema import Aggregate, CandidateScore, ScoreRequest, ScoreStepsRequest, StepScores

_AGGREGATE: dict[Aggregate, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "min": min,
    "max": max,
    "product": math.prod,
    "last": lambda scores: scores[-1],
    "sum": sum,
}


@dataclass(frozen=True, slots=True)
class StepModel(GatewayModel):
    """Scores every step of a response."""

    kind: ClassVar = "steps"
    result: ClassVar = StepScores
    example: ClassVar = "group"

    spec: VisualPRMSpec
    prompt: StepPrompt

    @property
    def max_tiles(self) -> int:
        return self.spec.max_tiles

    @property
    def longest_shared(self) -> int | None:
        return self.spec.decoder.rope.longest_shared

    def grid(self, image: Image, max_tiles: int | None) -> Grid:
        """How a picture is cut; without dynamic tiling it stays whole."""
        spec = self.spec
        limit = max_tiles or (spec.max_tiles if spec.dynamic_tiles else 1)
        return choose_grid(image.width, image.height, spec.tile_size, min(spec.min_tiles, limit), limit)

    def ready(self, request: ScoreRequest, images: ImageStore, skip: Collection[int] = ()) -> ReadyGroup:
        assert isinstance(request, ScoreStepsRequest)
        found = images.resolve(request.images)
        pictures = [found[reference] for reference in request.images]
        chosen = [index for index in range(request.size) if index not in skip]
        if not all(is_readable(picture) for picture in pictures):
            detail = "a picture of the group cannot be decoded"
            return ReadyGroup(tuple(self.unscored(index, "bad_image", detail) for index in chosen))
        hopeless = [index for index in chosen if self._is_hopeless(request, index)]
        steps = {index: _steps(request, index) for index in chosen if index not in set(hopeless)}
        ranges = {index: merge_steps(parts, request.max_steps) for index, parts in steps.items()}
        grids = [self.grid(picture, request.max_tiles) for picture in pictures]
        tiles = [count_tiles(grid, self.spec.thumbnail) for grid in grids]
        texts = {index: tuple(join_steps(parts, ranges[index])) for index, parts in steps.items()}
        encoded, by_index = self._encode(request, tiles, texts)
        scorable = {index: it for index, it in by_index.items() if isinstance(it, EncodedCandidate)}
        candidates = distinct((index, it, ()) for index, it in scorable.items())
        too_many = f"its steps alone make the prompt longer than {self.max_tokens} tokens"
        return ReadyGroup(
            refused=(
                *(self.unscored(index, "too_long", too_many) for index in hopeless),
                *(self.unscored(i, it.reason, it.detail) for i, it in by_index.items() if isinstance(it, Unscorable)),
            ),
            prefix=encoded.prefix.tobytes(),
            candidates=tuple(candidates),
            pictures=_job_pictures(pictures, grids, tiles, encoded),
            blobs=blobs_of(pictures),
            places=tuple(map(tuple, candidates.values())),
            spans={index: step_spans(steps[index], ranges[index]) for index in scorable},
            details={index: it.detail for index, it in scorable.items()},
            prompt_tokens={index: len(encoded.prefix) + len(it.suffix) for index, it in scorable.items()},
        )

    def scored(self, outcome: Outcome, group: ReadyGroup, request: ScoreRequest) -> Sequence[CandidateScore]:
        assert isinstance(request, ScoreStepsRequest)
        logits = outcome.values(2)
        margins = (logits[:, 0] - logits[:, 1]).tolist()
        scores = [sigmoid(margin) for margin in margins]
        score = _AGGREGATE[request.aggregate](scores)
        return [
            StepScores(
                index=index,
                status="ok",
                score=score,
                step_scores=scores,
                step_logits=margins,
                step_spans=group.spans[index],
                detail=group.details.get(index),
            )
            for index in group.places[outcome.candidate]
        ]

    def _is_hopeless(self, request: ScoreStepsRequest, index: int) -> bool:
        """Whether the number of steps alone makes a prompt too long, so that millions of them are never looked at."""
        steps = count_steps(request.candidates[index])
        merged = 1 if request.mode == "whole" else count_merged(steps, request.max_steps)
        return merged * self.prompt.least_step_tokens > self.max_tokens

    def _encode(
        self, request: ScoreStepsRequest, tiles: Sequence[int], texts: Mapping[int, tuple[str, ...]]
    ) -> tuple[EncodedGroup, dict[int, EncodedCandidate | Unscorable]]:
        """Equal candidates once; what became of each by its index. Raises InvalidRequest."""
        positions = {text: position for position, text in enumerate(dict.fromkeys(texts.values()))}
        try:
            encoded = self.prompt.encode_group(
                request.question, tiles, list(positions), request.control_tokens, self.max_tokens
            )
        except MarkerCount as error:
            raise InvalidRequest(f"question: {error}") from None
        return encoded, {index: encoded.candidates[positions[text]] for index, text in texts.items()}


def count_steps(candidate: str | Sequence[str]) -> int:
    """Before any are merged."""
    return candidate.count(SEPARATOR) + 1 if isinstance(candidate, str) else len(candidate)


def _steps(request: ScoreStepsRequest, index: int) -> list[str]:
    """The steps that are scored, before merging; `whole` is one step."""
    candidate = request.candidates[index]
    if request.mode == "whole":
        return [candidate if isinstance(candidate, str) else SEPARATOR.join(candidate)]
    return split_steps(candidate) if isinstance(candidate, str) else list(candidate)


def _job_pictures(
    pictures: Sequence[Image], grids: Sequence[Grid], tiles: Sequence[int], encoded: EncodedGroup
) -> tuple[JobPicture, ...]:
    return tuple(
        JobPicture((picture.id,), False, grid, count, run.offset, run.tokens)
        for picture, grid, count, run in zip(pictures, grids, tiles, encoded.pictures, strict=False)
    )


def sigmoid(x: float) -> float:
    """Without overflow at either end."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
