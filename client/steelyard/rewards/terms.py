"""The terms of a specification: what each reads, and between which values it lies."""

from math import inf
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steelyard.rewards.maths import MOST_CHARACTERS
from steelyard.rewards.multiple_choice import LETTERS
from steelyard.rewards.tags import Mode

Finite = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Bounds = tuple[float, float]


class Piece(BaseModel):
    """An object of a specification: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Clipping(Piece):
    """Between which values a number stays, both included; null is no end."""

    low: Finite | None = None
    high: Finite | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low, {self.low}, is above high, {self.high}")
        return self

    @property
    def ends(self) -> Bounds:
        return -inf if self.low is None else self.low, inf if self.high is None else self.high

    def clipped(self, value: float) -> float:
        low, high = self.ends
        return low if value < low else high if value > high else value


class WeightedTerm(Piece):
    """What all terms have. `name` is what the value is reported under; default: the kind."""

    weight: Finite = 1.0
    name: Name | None = None

    def bounds(self, mode: Mode) -> Bounds:
        """The least and the greatest value, before the weight."""
        return 0.0, 1.0


class IoUTerm(WeightedTerm):
    """Detection: the overlap of all boxes. Reads response and truth. 0..1."""

    kind: Literal["iou"] = "iou"


class ConfidenceTerm(WeightedTerm):
    """Detection: how fitting the confidences are. Reads response and truth. 0..1; a NaN of upstream's is a failure."""

    kind: Literal["confidence"] = "confidence"


class CalibrationTerm(WeightedTerm):
    """Detection: `confidence` without a premium on wrong boxes. Reads response and truth. 0..1; strict mode alone."""

    kind: Literal["calibration"] = "calibration"


class GroundingTerm(WeightedTerm):
    """Grounding: generalised IoU of one box, plus 1. Reads response and truth. 0..2; unbounded upstream."""

    kind: Literal["grounding"] = "grounding"

    def bounds(self, mode: Mode) -> Bounds:
        return (0.0, 2.0) if mode == "strict" else (-inf, inf)


class ClassificationTerm(WeightedTerm):
    """Classification: whether the true class is named. Reads response and truth. 0 or 1."""

    kind: Literal["classification"] = "classification"


class MathsTerm(WeightedTerm):
    """Whether the mathematics is equal. Reads response and truth. 0 or 1. Needs math-verify; may take long."""

    kind: Literal["maths"] = "maths"
    most_characters: int = Field(
        MOST_CHARACTERS, ge=1, le=100_000, description="Of a strict answer: a longer one has no reward."
    )


class MultipleChoiceTerm(WeightedTerm):
    """Whether the true letter is chosen. Reads response and truth. 0 or 1."""

    kind: Literal["multiple_choice"] = "multiple_choice"
    choices: str = Field(LETTERS, pattern=r"^[A-Z]{1,26}$", description="The letters that there are.")


class FormatTerm(WeightedTerm):
    """Whether it is a thought and an answer in their tags. Reads the response alone. 0 or 1."""

    kind: Literal["format"] = "format"


class ServedTerm(Clipping, WeightedTerm):
    """A served model's score, as it is given beside the response. Reads `served[model]` alone. Unbounded.

    `low` and `high` clip it; scores of a group are made comparable before, by `steelyard.blending`.
    """

    kind: Literal["served"] = "served"
    model: Name

    def bounds(self, mode: Mode) -> Bounds:
        return self.ends


Term = Annotated[
    IoUTerm
    | ConfidenceTerm
    | CalibrationTerm
    | GroundingTerm
    | ClassificationTerm
    | MathsTerm
    | MultipleChoiceTerm
    | FormatTerm
    | ServedTerm,
    Field(discriminator="kind"),
]
KINDS: tuple[str, ...] = tuple(term.model_fields["kind"].default for term in get_args(get_args(Term)[0]))


def name_of(term: Term) -> str:
    """What a term's value is reported under; a served model's own name, unless another is given."""
    return term.name or (term.model if isinstance(term, ServedTerm) else term.kind)
