"""The wire: every request and answer of the server, defined once for both sides.

Field by field in the server's `/docs`. An unknown field is an error, so that a misspelt option is never ignored.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

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

Images = Annotated[
    list[str],
    Field(max_length=MOST_ITEMS, fail_fast=True, description="Each a `sha256:` id, a data URL or base64."),
]


class Wire(BaseModel):
    """An object of the wire: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WireRequest(Wire):
    """What a caller sends. Its mistakes are few: each one found costs a kilobyte, and a body may hold millions."""

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, fields: object) -> object:
        # Looked up once: it is a property that takes longer than the comparison.
        known = cls.model_fields
        unknown = [name for name in fields if name not in known] if isinstance(fields, dict) else []
        if len(unknown) > _UNKNOWN_NAMED:
            raise ValueError(f"{unknown[0][:64]}: unknown field; and {len(unknown) - 1} more")
        return fields


class ScoreRequest(WireRequest):
    """What both kinds of scoring take."""

    model: str | None = Field(None, description="The served name; null when only one model of the kind is served.")
    weights: str | None = Field(None, description="The digest of the weights that must score; others are a 409.")
    max_tiles: int | None = Field(None, ge=1, le=64, description="Tiles a picture may be cut into.")
    control_tokens: ControlTokens = Field(
        "parse", description="Text that spells a control token: becomes one, is spelt out, or is refused."
    )
    priority: Priority = "train"
    deadline_ms: int | None = Field(None, ge=1, le=2**53, description="Null: 30 s online, 900 s train, none for batch.")
    id: str | None = Field(
        None, min_length=1, max_length=256, description="Yours: the same id and body are scored once."
    )

    @property
    def size(self) -> int:
        """How many results the answer has."""
        raise NotImplementedError


class ScoreStepsRequest(ScoreRequest):
    """One question, its pictures and the candidate solutions whose steps are to be scored."""

    question: str = Field(description="May place its pictures with `<image>`; without a marker they come first.")
    images: Images = []
    candidates: list[Candidate] = Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)
    mode: Literal["steps", "whole"] = Field("steps", description="`whole` scores the response as one step.")
    max_steps: int | None = Field(None, ge=1, le=10_000, description="Merge neighbouring steps to at most so many.")
    aggregate: Aggregate = "mean"

    @property
    def size(self) -> int:
        """One result a candidate."""
        return len(self.candidates)


class TextPart(WireRequest):
    """Text of a message."""

    type: Literal["text"] = "text"
    text: str


class ImageURL(WireRequest):
    """Where a picture's bytes are."""

    url: str = Field(description="A `sha256:` id, a data URL or base64.")


class ImagePart(WireRequest):
    """A picture that stands where this part stands."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageURL


class FramesPart(WireRequest):
    """A video's frames, which the model sees as one picture with a caption over each."""

    type: Literal["video_frames"] = "video_frames"
    frames: list[str] = Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True, description="Each as in `images`.")


Part = Annotated[TextPart | ImagePart | FramesPart, Field(discriminator="type")]
# Told apart by type, so that a mistake in a part is not also reported as a text that is none.
Content = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[list[Part], Field(max_length=MOST_ITEMS, fail_fast=True), Tag("[parts]")],
    Discriminator(lambda content: "[parts]" if isinstance(content, list | tuple) else "[text]"),
]


class Message(WireRequest):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Content = Field(description="A text, or parts, whose texts are joined as they are.")


Messages = Annotated[list[Message], Field(max_length=MOST_ITEMS, fail_fast=True)]


class Conversation(WireRequest):
    """A whole conversation to be scored, whoever speaks last."""

    messages: Messages
    images: Images = []


class ScoreOutcomesRequest(ScoreRequest):
    """Candidate answers to the same messages and pictures, or whole conversations: one form or the other."""

    messages: Messages | None = Field(
        None, description="What is answered. May place `images` with `<ImageHere>`; without a marker they come first."
    )
    images: Images = []
    candidates: list[str] | None = Field(None, min_length=1, max_length=MOST_ITEMS, fail_fast=True)
    conversations: list[Conversation] | None = Field(None, min_length=1, max_length=MOST_ITEMS, fail_fast=True)

    @property
    def size(self) -> int:
        """One result a candidate or conversation."""
        return len(self.conversations or self.candidates or ())

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.conversations is None:
            if self.messages is None or self.candidates is None:
                raise ValueError("needs messages and candidates, or conversations")
        elif self.messages is not None or self.candidates is not None or self.images:
            raise ValueError("conversations bring their own messages and images, and have no candidates")
        return self


class CandidateScore(Wire):
    """What became of one candidate; `score` is null unless `status` is `ok`."""

    index: int
    status: Status
    score: float | None = None
    retryable: bool | None = Field(None, description="Whether to try again when it was not scored.")
    detail: str | None = None


class StepScores(CandidateScore):
    """One candidate's scores; each of them is null unless `status` is `ok`."""

    step_scores: list[float] | None = Field(None, description="P(+) of each step.")
    step_logits: list[float] | None = Field(None, description="Log-odds of `+` over `-`, which do not saturate.")
    step_spans: list[tuple[int, int]] | None = Field(None, description="Code points [start, end) of each step.")


class OutcomeScore(CandidateScore):
    """One candidate's score, the reference's own number: not bounded, and null unless `status` is `ok`."""


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
    object: Literal["step_scores", "outcome_scores"]
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

    object: Literal["step_scores"] = "step_scores"
    results: list[StepScores]


class ScoreOutcomesResponse(ScoredGroup):
    """One result a candidate or conversation, in the caller's order."""

    object: Literal["outcome_scores"] = "outcome_scores"
    results: list[OutcomeScore]


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


class BatchJob(Wire):
    """Groups handed over in bulk, and how far they are; times are seconds since 1970."""

    id: str
    object: Literal["job"] = "job"
    status: Literal["open", "running", "done", "cancelled"] = Field(description="`open` takes more groups.")
    groups: int
    done: int = Field(description="Groups that have a row, refused ones too.")
    failed: int = Field(description="Groups that were refused.")
    created: float
    expires_at: float = Field(description="When it is forgotten, unless it is used again.")
    durable: bool = Field(description="Whether it survives a restart of the server.")
    groups_per_s: float | None = Field(None, description="Of the last half minute or so.")
    eta_s: float | None = Field(None, description="Seconds that the groups so far will take at this rate.")


class StoredUpload(Wire):
    """Bytes kept under their hash, for a job to refer to."""

    id: str
    bytes: int
    expires_at: float


class JobFromUpload(WireRequest):
    """A job whose groups were sent before, with `PUT /uploads`."""

    upload: str = Field(pattern="^sha256:[0-9a-f]{64}$")


class ReloadRequest(WireRequest):
    """What to serve instead."""

    models: dict[str, str] = Field(
        {}, description="Served name → a folder on the server, or ORG/REPO@REVISION; the others are read again."
    )


class Loaded(Wire):
    """The answer to an order: whether models are loaded, and which those are that were loaded last."""

    status: Literal["asleep", "awake"]
    models: list[ServedModel]


class ErrorDetail(Wire):
    """Why a call was refused; `code` is stable, `message` is for people."""

    code: str
    message: str
    type: ErrorType
    request_id: str


class ErrorResponse(Wire):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class JobRow(Wire):
    """What became of one group of a job: the answer that its route would have given, or why it was refused."""

    index: int = Field(description="The group's line in the job, from 0.")
    status: Literal["ok", "refused"]
    answer: Annotated[ScoreStepsResponse | ScoreOutcomesResponse, Field(discriminator="object")] | None = None
    error: ErrorDetail | None = None


class JobCursor(Wire):
    """The last line of a page of rows: where the next one begins, and whether that is the job's end."""

    cursor: str
    done: bool
