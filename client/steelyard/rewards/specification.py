"""What a reward is made of, as one object for Python, for files and for request bodies.

`Specification(terms="0.9 * iou + 0.1 * format").evaluate(response, truth).total`
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from steelyard.rewards.compiling import compiled
from steelyard.rewards.evaluation import Compiled, Evaluation
from steelyard.rewards.expression import read_expression
from steelyard.rewards.settling import Clip, Gate, LengthCap
from steelyard.rewards.tags import Mode
from steelyard.rewards.terms import Bounds, CalibrationTerm, ConfidenceTerm, Piece, ServedTerm, Term, name_of

_MOST = 32


class Specification(Piece):
    """A weighted sum of terms; then gates in their order, then the length cap, then the clip."""

    terms: Annotated[list[Term], Field(min_length=1, max_length=_MOST)] = Field(
        description="Terms, or a text such as `0.9 * iou + 0.1 * format`."
    )
    mode: Mode = Field("strict", description="`upstream` computes as Visual-RFT does, exploits included.")
    maths_first: bool = Field(True, description="Whether `upstream` takes its maths step before anything else.")
    gates: list[Gate] = Field([], max_length=_MOST)
    length: LengthCap | None = None
    clip: Clip | None = None
    _compiled: Compiled | None = PrivateAttr(None)

    @field_validator("terms", mode="before")
    @classmethod
    def _as_list(cls, terms: object) -> object:
        return read_expression(terms) if isinstance(terms, str) else terms

    @field_validator("terms")
    @classmethod
    def _own_names(cls, terms: list[Term]) -> list[Term]:
        first: dict[str, int] = {}
        for index, term in enumerate(terms):
            if first.setdefault(name_of(term), index) != index:
                raise ValueError(f"{index}.name: {name_of(term)!r} is the name of term {first[name_of(term)]} already")
        return terms

    @field_validator("mode")
    @classmethod
    def _has_all(cls, mode: Mode, info: ValidationInfo) -> Mode:
        for index, term in enumerate(info.data.get("terms", ())):
            if mode == "upstream" and isinstance(term, CalibrationTerm):
                raise ValueError(f"upstream has no calibration, which is term {index}")
        return mode

    @field_validator("gates")
    @classmethod
    def _known(cls, gates: list[Gate], info: ValidationInfo) -> list[Gate]:
        names = [name_of(term) for term in info.data.get("terms", ())]
        for index, gate in enumerate(gates):
            if names and gate.term not in names:
                raise ValueError(f"{index}.term: there is no term {gate.term!r}; there are {', '.join(names)}")
        return gates

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms, under which an evaluation reports them."""
        return tuple(name_of(term) for term in self.terms)

    @property
    def served_models(self) -> tuple[str, ...]:
        """The models whose scores `evaluate` needs."""
        return tuple(dict.fromkeys(term.model for term in self.terms if isinstance(term, ServedTerm)))

    @property
    def needs_truth(self) -> bool:
        """Whether any term reads the solution."""
        return any(term.kind not in ("format", "served") for term in self.terms)

    @property
    def may_take_long(self) -> bool:
        """Whether mathematics is compared, whose time is bounded by nothing but the size of its texts."""
        return any(term.kind == "maths" for term in self.terms) or (
            self.mode == "upstream" and self.maths_first and self.needs_truth
        )

    @property
    def bounds(self) -> Bounds:
        """The least and the greatest total that there can be."""
        low, high = 0.0, 0.0
        for term in self.terms:
            ends = [term.weight * end if term.weight else 0.0 for end in term.bounds(self.mode)]
            low, high = low + min(ends), high + max(ends)
        for gate in self.gates:
            low, high = min(low, gate.otherwise), max(high, gate.otherwise)
        if self.length is not None:
            low = min(low, 0.0) if self.length.over == "zero" else low - self.length.most
        if self.clip is not None:
            low, high = self.clip.clipped(low), self.clip.clipped(high)
        return low, high

    def __copy__(self) -> "Specification":
        """Compiled anew: a copy may be changed."""
        copied = super().__copy__()
        copied._compiled = None
        return copied

    def in_mode(self, mode: Mode) -> "Specification":
        """The same in another mode: upstream has `confidence` where strict may have `calibration`."""
        taken = {"confidence", *(gate.term for gate in self.gates)} & {*self.names}
        terms = [
            ConfidenceTerm(weight=term.weight, name=name_of(term) if taken else term.name)
            if mode == "upstream" and isinstance(term, CalibrationTerm)
            else term
            for term in self.terms
        ]
        return Specification.model_validate({**dict(self), "terms": terms, "mode": mode})

    def compile(self) -> Compiled:
        """The same, prepared for many calls: `compile()(response, truth, served)` is `evaluate` of these."""
        if self._compiled is None:
            after = (*self.gates, *(step for step in (self.length, self.clip) if step is not None))
            self._compiled = compiled(
                self.terms, self.mode, [step.settle for step in after], maths_first=self.maths_first
            )
        return self._compiled

    def evaluate(
        self, response: str, truth: str | None = None, served: Mapping[str, float] | None = None
    ) -> Evaluation:
        """The total and the terms' values. `served` has a score for each of `served_models`.

        Raises RewardFailure where there is no number: UnusableTruth, NotFinite, TooComplex, ScoreMissing, ExtraMissing.
        """
        return self.compile()(response, truth, served)
