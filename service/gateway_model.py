"""A reward model as a gateway knows it: what it makes of a request, and of what the engine says."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from models.encoded import EncodedCandidate
from service.images import Image, ImageStore
from service.job import JobCandidate, JobPicture, Outcome
from steelyard.schema import CandidateScore, ScoreRequest, Status


@dataclass(frozen=True, slots=True)
class ReadyGroup:
    """What a job needs and what its answer needs.

    `candidates` are the distinct prompts; `places[i]` the caller's candidates that the i-th stands for. `spans`,
    `details` and `prompt_tokens` are by the caller's index. `refused` are those that no forward will see.
    """

    refused: tuple[CandidateScore, ...]
    prefix: bytes = b""
    candidates: tuple[JobCandidate, ...] = ()
    pictures: tuple[JobPicture, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    places: tuple[tuple[int, ...], ...] = ()
    spans: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)
    details: Mapping[int, str | None] = field(default_factory=dict)
    prompt_tokens: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayModel(ABC):
    """A served checkpoint without its weights; each kind of model is a subclass."""

    kind: ClassVar[Literal["steps", "outcome"]]
    result: ClassVar[type[CandidateScore]]
    # A file in `examples/` to try it with.
    example: ClassVar[str]

    name: str
    family: str
    directory: Path
    revision: str | None
    tokenizer_digest: str
    max_tokens: int

    @property
    @abstractmethod
    def max_tiles(self) -> int:
        """Tiles that a picture is cut into unless a call says otherwise; 0 for a model that sees none."""

    @property
    def longest_shared(self) -> int | None:
        """Tokens of the longest prompt that may share what is computed with another; None where any may."""
        return None

    @abstractmethod
    def ready(self, request: ScoreRequest, images: ImageStore, skip: Collection[int] = ()) -> ReadyGroup:
        """Encode a request's candidates but those in `skip`; runs on a thread.

        Raises InvalidRequest for markers that do not match the pictures, and what the image store raises.
        """

    @abstractmethod
    def scored(self, outcome: Outcome, group: ReadyGroup, request: ScoreRequest) -> Sequence[CandidateScore]:
        """A result for each of the caller's candidates that this outcome, which is `ok`, stands for."""

    def results(self, outcome: Outcome, group: ReadyGroup, request: ScoreRequest) -> Sequence[CandidateScore]:
        """A result for each of the caller's candidates that this outcome stands for."""
        if outcome.status == "ok":
            return self.scored(outcome, group, request)
        return [
            self.unscored(index, outcome.status, outcome.detail, retryable=outcome.retryable)
            for index in group.places[outcome.candidate]
        ]

    def unscored(self, index: int, status: Status, detail: str | None, *, retryable: bool = False) -> CandidateScore:
        """A result without a number."""
        return self.result(index=index, status=status, retryable=retryable, detail=detail)


Encoded = tuple[int, EncodedCandidate, tuple[JobPicture, ...]]


def distinct(encoded: Iterable[Encoded]) -> dict[JobCandidate, list[int]]:
    """Each prompt once, with the caller's indices that it stands for, in the order of its first.

    An encoded candidate comes with its index and the pictures that are its own.
    """
    places: dict[JobCandidate, list[int]] = {}
    for index, found, pictures in encoded:
        candidate = JobCandidate(found.suffix.tobytes(), found.readouts.tobytes(), pictures)
        places.setdefault(candidate, []).append(index)
    return places


def blobs_of(pictures: Iterable[Image]) -> dict[str, bytes]:
    """The bytes of pictures by their hash."""
    return {picture.id: picture.content for picture in pictures}
