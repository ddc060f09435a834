"""What a caller may choose on every compatible route: this server's own options, under its own names."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.body import describe
from service.errors import InvalidRequest
from steelyard.schema import Aggregate, ControlTokens, Priority

Chosen = TypeVar("Chosen", bound="Choice")


class Choice(BaseModel):
    """Options of `/score_steps` and `/score_outcomes`, each with the default that it has there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="The served name; null when only one could be meant.")
    weights: str | None = Field(None, description="The digest of the weights that must score.")
    aggregate: Aggregate | None = Field(None, description="Of a process model's steps; null is their mean.")
    max_steps: int | None = Field(None, ge=1, le=10_000, description="Merge neighbouring steps to at most so many.")
    max_tiles: int | None = Field(None, ge=1, le=64, description="Tiles a picture may be cut into.")
    control_tokens: ControlTokens = "parse"
    priority: int = Field(0, ge=-(2**63), lt=2**63, description="Below 0 is `online`, 0 `train`, above 0 `batch`.")
    deadline_ms: int | None = Field(None, ge=1, le=2**53, description="Null is the class's own.")

    @property
    def priority_class(self) -> Priority:
        """Lower numbers are served first, as in vLLM."""
        if self.priority == 0:
            return "train"
        return "online" if self.priority < 0 else "batch"


def read_choice(kind: type[Chosen], parameters: Mapping[str, str]) -> Chosen:
    """What stands after the question mark. Raises InvalidRequest, also for what is no option."""
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        raise InvalidRequest(f"after the question mark: {describe(error)}") from None
