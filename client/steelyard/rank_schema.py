"""The wire of `POST /rank`: candidates put in order by one model, or by several at once."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from steelyard.blending import Normalize
from steelyard.schema import (
    MOST_ITEMS,
    Aggregate,
    Candidate,
    CandidateScore,
    ControlTokens,
    Images,
    Messages,
    Priority,
    Provenance,
    StepScores,
    Timings,
    Usage,
    Wire,
    WireRequest,
)

_MOST_MODELS = 16
_HEAVIEST = 1e6

Share = Annotated[float, Field(gt=0, le=_HEAVIEST, allow_inf_nan=False)]


class RankRequest(WireRequest):
    """A question or messages, and the candidates to be put in order."""

    question: str | None = Field(None, description="May place its pictures with `<image>`; without one they are first.")
    messages: Messages | None = Field(
        None, description="In place of a question; a process reward model takes a single user turn."
    )
    images: Images = Field([])
    candidates: list[Candidate] = Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)
    model: str | None = Field(None, description="Null without a blend: the only model, or the only one of steps.")
    blend: dict[str, Share] | None = Field(
        None, min_length=1, description="Served names and their weights in the sum, at most 16."
    )
    normalize: Normalize | None = Field(
        None, description="Of each model's scores within the group; null: `zscore` for a blend, `none` for one model."
    )
    aggregate: Aggregate = Field("mean", description="Of the step scores of a process reward model.")
    weights: dict[str, str] = Field({}, description="Served name → the digest of the weights that must score.")
    max_tiles: int | None = Field(None, ge=1, le=64, description="Tiles a picture may be cut into.")
    control_tokens: ControlTokens = "parse"
    priority: Priority = "online"
    deadline_ms: int | None = Field(None, ge=1, le=2**53, description="Null: 30 s online, 900 s train, none for batch.")
    id: str | None = Field(None, min_length=1, max_length=256, description="Yours: the same id and body rank once.")

    @field_validator("blend", "weights", mode="before")
    @classmethod
    def _few_models(cls, named: object) -> object:
        # Before its entries are looked at, each of whose mistakes would be kept.
        if isinstance(named, dict) and len(named) > _MOST_MODELS:
            raise ValueError(f"{len(named)} models, the limit is {_MOST_MODELS}")
        return named

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.question is None) == (self.messages is None):
            raise ValueError("needs a question or messages, and not both")
        if self.model is not None and self.blend is not None:
            raise ValueError("needs a model or a blend, and not both")
        asked = self.blend or ({self.model} if self.model is not None else None)
        unasked = [name for name in self.weights if asked is not None and name not in asked]
        if unasked:
            raise ValueError(f"weights: {unasked[0][:64]} is not among the models that are to rank")
        return self


class OwnScore(StepScores):
    """What one model made of the candidate; a model of whole answers has no steps."""


class RankedCandidate(CandidateScore):
    """`score` decides the ranking, and is null unless every model scored the candidate."""

    models: dict[str, OwnScore] = Field(description="Served name → the model's own score.")


class RankingModel(Wire):
    """One model's part in a ranking."""

    kind: Literal["steps", "outcome"]
    weight: float = Field(description="In the sum; 1 for a model alone.")
    usage: Usage
    provenance: Provenance
    timings_ms: Timings


class RankResponse(Wire):
    """One result a candidate, in the caller's order."""

    id: str
    object: Literal["ranking"] = "ranking"
    normalize: Normalize
    best: int | None
    ranking: list[int] = Field(
        description="Indices of the candidates that every model scored, best first; ties keep the caller's order."
    )
    results: list[RankedCandidate]
    models: dict[str, RankingModel]
