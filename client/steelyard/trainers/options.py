"""How the samples of a run are scored."""

from dataclasses import dataclass
from typing import Literal

from steelyard.errors import InvalidCall
from steelyard.requests import build
from steelyard.schema import Aggregate, ControlTokens, Priority, ScoreOutcomesRequest, ScoreStepsRequest


@dataclass(frozen=True, slots=True)
class Options:
    """The wire's own options, with what a training run wants as the default. Raises InvalidCall for what it has not.

    `kind` is the model's: `steps`, or `outcome`. Text that spells a control token is spelt out: parsed, a policy could
    learn to fake turns, and refused, it could learn to escape a low score. `more_tries` is for candidates that the
    server calls retryable. `same_weights` ends the run when another answer's weights scored than the first one's.
    """

    kind: Literal["steps", "outcome"] = "steps"
    model: str | None = None
    weights: str | None = None
    mode: Literal["steps", "whole"] = "steps"
    max_steps: int | None = None
    max_tiles: int | None = None
    aggregate: Aggregate = "mean"
    control_tokens: ControlTokens = "literal"
    priority: Priority = "train"
    deadline_ms: int | None = None
    more_tries: int = 2
    same_weights: bool = True

    def __post_init__(self) -> None:
        shared = {
            name: getattr(self, name)
            for name in ("model", "weights", "max_tiles", "control_tokens", "priority", "deadline_ms")
        }
        if self.kind == "steps":
            own = {"mode": self.mode, "max_steps": self.max_steps, "aggregate": self.aggregate}
            build(ScoreStepsRequest, question="", candidates=[""], **own, **shared)
        elif self.kind != "outcome":
            raise InvalidCall(f"kind: {self.kind!r} is neither 'steps' nor 'outcome'")
        elif (self.mode, self.max_steps, self.aggregate) != ("steps", None, "mean"):
            raise InvalidCall("mode, max_steps and aggregate are for models that score steps")
        else:
            build(ScoreOutcomesRequest, messages=[], candidates=[""], **shared)
