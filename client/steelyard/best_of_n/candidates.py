"""What travels between the parts of a search: what is to be drawn, what came of it, and what it was worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steelyard.schema import Status

# A status of the wire, or why there is nothing to score, or nobody who scored it.
Fate = Status | Literal["empty", "not_generated", "not_scored", "not_needed"]
STEP_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Draw:
    """Have the generator answer, or continue these steps by one; `number` counts the draws of a search from 0."""

    number: int
    seed: int | None
    steps: tuple[str, ...] = ()
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the generator gave: `ended` says whether it had no more to say, None that it does not tell."""

    text: str
    tokens: int
    estimated: bool = False
    finish: str | None = None
    ended: bool | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """What the reward models made of a text; `own` are their scores by name, and only with all of them it is `ok`."""

    status: Fate
    score: float | None = None
    detail: str | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    step_scores: tuple[float, ...] | None = None
    computed_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draw and what became of it; times are seconds since the search began.

    `score` is None unless `status` is `ok`. In a step beam it is a solution so far: its parent's steps and one more.
    """

    number: int
    seed: int | None
    parent: int | None
    status: Fate
    detail: str | None
    text: str
    steps: tuple[str, ...]
    finished: bool
    score: float | None
    own: Mapping[str, float]
    step_scores: tuple[float, ...] | None
    finish: str | None
    tokens: int
    tokens_estimated: bool
    scored_tokens: int
    cached_tokens: int
    began_s: float
    generated_s: float | None
    settled_s: float


def candidate_of(
    draw: Draw, drawn: Drawn | None, worth: Worth, times_s: tuple[float, float | None, float], *, finished: bool
) -> Candidate:
    """`times_s` are when it began, was generated and settled."""
    steps = (*draw.steps, *drawn.text.split(STEP_SEPARATOR)) if drawn and drawn.text else draw.steps
    began_s, generated_s, settled_s = times_s
    return Candidate(
        number=draw.number,
        seed=draw.seed,
        parent=draw.parent,
        status=worth.status,
        detail=worth.detail,
        text=STEP_SEPARATOR.join(steps),
        steps=steps,
        finished=finished,
        score=worth.score,
        own=worth.own,
        step_scores=worth.step_scores,
        finish=drawn.finish if drawn else None,
        tokens=drawn.tokens if drawn else 0,
        tokens_estimated=drawn.estimated if drawn else False,
        scored_tokens=worth.computed_tokens,
        cached_tokens=worth.cached_tokens,
        began_s=began_s,
        generated_s=generated_s,
        settled_s=settled_s,
    )
