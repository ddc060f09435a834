"""The wire: every request and answer of the server, defined once for both sides.

Field by field in the server's `/docs`. An unknown field is an error, so that a misspelt option is never ignored.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ControlTokens = Literal["parse", "literal", "refuse"]
Priority = Literal["online", "train", "batch"]
Aggregate = Literal["mean", "min", "max", "product", "last", "sum"]
ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "overloaded_error", "server_error"
]
Status = Literal["ok", "too_long", "bad_image", "refused", "expired", "failed"]

# Beyond any server's limits: what keeps a body of millions of items from being looked at one by one.
MOST_ITEMS = 100_000
_UNKNOWN_NAMED = 8

Step = str
Candidate = Annotated[
    str | Annotated[list[Step], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)],
    Field(description="A text, split into steps on blank lines, or the list of its steps."),
]


class Wire(BaseModel):
    """An object of the wire: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WireRequest(Wire):
    """What a caller sends. Its mistakes are few: each one found costs a kilobyte, and a body may hold millions."""

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, fields: object) -> object:
        unknown = [name for name in fields if name not in cls.model_fields] if isinstance(fields, dict) else []
        if len(unknown) > _UNKNOWN_NAMED:
            raise ValueError(f"{unknown[0][:64]}: unknown field; and {len(unknown) - 1} more")
        return fields


class ScoreStepsRequest(WireRequest):
    """One question, its pictures and the candidate solutions whose steps are to be scored."""

    question: str = Field(description="May place its pictures with `<image>`; without a marker they come first.")
    images: list[str] = Field(
        default=[], max_length=MOST_ITEMS, fail_fast=True, description="Each a `sha256:` id, a data URL or base64."
    )
    candidates: list[Candidate] = Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)
    model: str | None = Field(None, description="The served name; null when only one process reward model is served.")
    weights: str | None = Field(None, description="The digest of the weights that must score; others are a 409.")
    mode: Literal["steps", "whole"] = Field("steps", description="`whole` scores the response as one step.")
    max_steps: int | None = Field(None, ge=1, le=10_000, description="Merge neighbouring steps to at most so many.")
    max_tiles: int | None = Field(None, ge=1, le=64, description="Tiles a picture may be cut into.")
    aggregate: Aggregate = "mean"
    control_tokens: ControlTokens = "parse"
    priority: Priority = "train"
    deadline_ms: int | None = Field(None, ge=1, le=2**53, description="Null: 30 s online, 900 s train, none for batch.")
    id: str | None = Field(
        None, min_length=1, max_length=256, description="Yours: the same id and body are scored once."
    )


class StepScores(Wire):
    """One candidate's scores; every score is null unless `status` is `ok`."""

    index: int
    status: Status
    score: float | None = None
    step_scores: list[float] | None = Field(None, description="P(+) of each step.")
    step_logits: list[float] | None = Field(None, description="Log-odds of `+` over `-`, which do not saturate.")
    step_spans: list[tuple[int, int]] | None = Field(None, description="Code points [start, end) of each step.")
    retryable: bool | None = None
    detail: str | None = None


class Usage(Wire):
    """Tokens and tiles of one call."""

    prompt_tokens: int = Field(description="The reference's prompt length, summed over the scored candidates.")
    computed_tokens: int = Field(description="Rows that went through the decoder.")
    cached_tokens: int = Field(description="`prompt_tokens` less `computed_tokens`.")
    tiles: int = Field(description="Tiles encoded for this call.")


class Provenance(Wire):
    """What exactly scored."""

    model: str
    family: str
    revision: str | None
    weights: str
    tokenizer: str
    dtype: str
    batch_invariant: bool
    version: str


class Timings(Wire):
    """Milliseconds."""

    encode: float
    queue: float
    forward: float
    total: float


class ScoredGroup(Wire):
    """All of an answer but its results: also the last line of an NDJSON stream."""

    id: str
    object: Literal["step_scores"] = "step_scores"
    model: str
    best: int | None
    ranking: list[int] = Field(
        description="Indices of the scored candidates, best first; ties keep the caller's order."
    )
    usage: Usage
    provenance: Provenance
    timings_ms: Timings


class ScoreStepsResponse(ScoredGroup):
    """One result a candidate, in the caller's order."""

    results: list[StepScores]


class StoredImage(Wire):
    """A picture kept under the hash of its bytes."""

    id: str
    width: int
    height: int
    bytes: int


class ModelLimits(Wire):
    """What one group may hold."""

    max_tokens: int
    max_tiles: int


class ServedModel(Wire):
    """A model and what identifies it."""

    name: str
    kind: Literal["steps", "outcome"]
    family: str
    provenance: Provenance
    limits: ModelLimits


class ServedModels(Wire):
    """The answer of `GET /models`."""

    object: Literal["list"] = "list"
    data: list[ServedModel]


class ErrorDetail(Wire):
    """Why a call was refused; `code` is stable, `message` is for people."""

    code: str
    message: str
    type: ErrorType
    request_id: str


class ErrorResponse(Wire):
    """The body of every answer that is not a success."""

    error: ErrorDetail
