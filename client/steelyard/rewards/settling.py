"""What happens to a specification's sum: gates, a cap on length, a clip."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from steelyard.rewards.terms import Clipping, Finite, Name, Piece


class Gate(Piece):
    """A term that must reach a value; where it does not, the total is `otherwise`, whatever the others are."""

    term: Name = Field(description="A term's name.")
    at_least: Finite
    otherwise: Finite = 0.0

    def settle(self, response: str, total: float, parts: Mapping[str, float]) -> float:
        return total if parts[self.term] >= self.at_least else self.otherwise


class Clip(Clipping):
    """Between which values the total stays."""

    def settle(self, response: str, total: float, parts: Mapping[str, float]) -> float:
        return self.clipped(total)


class LengthCap(Piece):
    """How long a response may be, in characters, and what a longer one costs."""

    characters: int = Field(ge=1, le=2**31)
    over: Literal["zero", "penalty"] = Field(
        "zero", description="zero: the total is 0, or what it is if that is less. penalty: so much is taken off."
    )
    per_character: float = Field(0.001, ge=0, le=1e6, allow_inf_nan=False, description="Of the penalty.")
    most: float = Field(1.0, ge=0, le=1e6, allow_inf_nan=False, description="Of the penalty in all.")

    def settle(self, response: str, total: float, parts: Mapping[str, float]) -> float:
        excess = len(response) - self.characters
        if excess <= 0:
            return total
        return min(total, 0.0) if self.over == "zero" else total - min(self.most, self.per_character * excess)
