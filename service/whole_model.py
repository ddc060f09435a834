"""A model that scores an answer, or a conversation, as a whole: one number for each prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.encoded import EncodedCandidate, EncodedGroup, Unscorable
from service.gateway_model import GatewayModel, ReadyGroup, blobs_of, distinct
from service.images import Image
from service.job import JobPicture, Outcome
from steelyard.schema import CandidateScore, OutcomeScore, ScoreRequest

Found = EncodedCandidate | Unscorable


@dataclass(frozen=True, slots=True)
class WholeModel(GatewayModel):
    """What every outcome reward model has in common."""

    kind: ClassVar = "outcome"
    result: ClassVar = OutcomeScore

    def scored(self, outcome: Outcome, group: ReadyGroup, request: ScoreRequest) -> Sequence[CandidateScore]:
        score = outcome.values(1).item()
        return [
            OutcomeScore(index=index, status="ok", score=score, detail=group.details.get(index))
            for index in group.places[outcome.candidate]
        ]

    def _ready(
        self,
        encoded: EncodedGroup,
        found: Mapping[int, Found],
        files: Mapping[str, Image],
        *,
        shared: tuple[JobPicture, ...] = (),
        own: Mapping[int, tuple[JobPicture, ...]] | None = None,
        bad: Sequence[CandidateScore] = (),
    ) -> ReadyGroup:
        scorable = {index: it for index, it in found.items() if isinstance(it, EncodedCandidate)}
        candidates = distinct((index, it, own[index] if own else ()) for index, it in scorable.items())
        refused = (self.unscored(i, it.reason, it.detail) for i, it in found.items() if isinstance(it, Unscorable))
        return ReadyGroup(
            refused=(*bad, *refused),
            prefix=encoded.prefix.tobytes(),
            candidates=tuple(candidates),
            pictures=shared,
            blobs=blobs_of(files.values()),
            places=tuple(map(tuple, candidates.values())),
            details={index: it.detail for index, it in scorable.items()},
            prompt_tokens={index: len(encoded.prefix) + len(it.suffix) for index, it in scorable.items()},
        )
