"""What a caller may ask for: how candidates are drawn, when drawing stops, and which one is taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from steelyard.best_of_n.answers import final_answer
from steelyard.best_of_n.candidates import Candidate
from steelyard.best_of_n.choosing import Choice, Extract, Weigh, best_of, is_decided, vote
from steelyard.errors import InvalidCall


@dataclass(frozen=True, slots=True)
class Best:
    """All N are drawn, and the one with the highest score is taken."""

    extract: Extract = final_answer

    def choose(self, scored: Sequence[Candidate], weigh: Weigh) -> Choice:
        best = best_of(scored)
        return Choice(best, self.extract(best.text), {})

    def is_decided(self, scored: Sequence[Candidate], remaining: int, weigh: Weigh, highest: float) -> bool:
        """Whether none of those that remain can be better."""
        return max((candidate.score or 0.0 for candidate in scored), default=float("-inf")) >= highest


@dataclass(frozen=True, slots=True)
class WeightedVote:
    """All N are drawn; the answer whose candidates weigh most is taken, and of them the best.

    A candidate without an answer has no vote. `weigh` makes a weight, finite and not below 0, of a score: by default
    the score itself where it is a probability, and its logistic where it is not bounded.
    """

    extract: Extract = final_answer
    weigh: Weigh | None = None

    def choose(self, scored: Sequence[Candidate], weigh: Weigh) -> Choice:
        return vote(scored, self.extract, self.weigh or weigh)

    def is_decided(self, scored: Sequence[Candidate], remaining: int, weigh: Weigh, highest: float) -> bool:
        """Whether no answer can catch up with the leading one."""
        return is_decided(scored, remaining, self.extract, self.weigh or weigh, highest)


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Fewer than N are drawn: until one scores at least `threshold`, or until the leader cannot be caught.

    `highest` is the highest score, of a vote the highest weight, that a candidate can have; by default 1 where it is a
    probability or its logistic, and unknown elsewhere: then only the threshold stops. Candidates count in the order in
    which they were drawn, whichever is done first, so that the same ones decide on every machine. `at_once` are drawn
    at a time: more are sooner done, and up to so many less one may be drawn in vain.
    """

    threshold: float | None = None
    of: Best | WeightedVote = field(default_factory=Best)
    highest: float | None = None
    at_once: int = 1

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise InvalidCall(f"EarlyStop: at_once: {self.at_once} is less than 1")


@dataclass(frozen=True, slots=True)
class StepBeam:
    """Solutions grow by a step at a time: `keep` of them go on, each with `propose` continuations.

    At first `keep` times `propose` are drawn. A solution has ended when the generator says so or its last step has an
    answer; the search, when all that are kept have, or at `max_steps`. Needs a process reward model.
    """

    keep: int = 2
    propose: int = 4
    max_steps: int = 32
    extract: Extract = final_answer

    def __post_init__(self) -> None:
        if min(self.keep, self.propose, self.max_steps) < 1:
            raise InvalidCall("StepBeam: keep, propose and max_steps are at least 1")


Strategy: TypeAlias = Best | WeightedVote | EarlyStop | StepBeam


def described(strategy: Strategy) -> str:
    """As it would be written, its functions by name, so that two runs of the same say the same."""
    parts = [f"{each.name}={_shown(getattr(strategy, each.name))}" for each in fields(strategy)]
    return f"{type(strategy).__name__}({', '.join(parts)})"


def _shown(value: object) -> str:
    if isinstance(value, Best | WeightedVote):
        return described(value)
    return getattr(value, "__qualname__", type(value).__name__) if callable(value) else repr(value)
