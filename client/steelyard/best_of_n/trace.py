"""All that happened in a search, as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from steelyard.best_of_n.candidates import Candidate
from steelyard.best_of_n.search import Why


@dataclass(frozen=True, slots=True)
class Totals:
    """What a search cost: generated tokens, those scored anew and those the server still knew, and seconds."""

    drawn: int
    scored: int
    left_out: int
    tokens: int
    scored_tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Every candidate by its number, why the search stopped, and what was taken of those that count."""

    question: str
    pictures: tuple[str, ...]
    strategy: str
    seed: int | None
    reward: Mapping[str, str]
    stopped: Why
    chosen: int | None
    answer: str | None
    score: float | None
    votes: Mapping[str, float]
    counted: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    totals: Totals

    def to_json(self, indent: int | None = None) -> str:
        """Every field under its own name; a score that is not there is null."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, indent=indent)

    def why_left_out(self) -> str:
        """The candidates without a score, each with its status and a reason."""
        left_out = [candidate for candidate in self.candidates if candidate.status not in ("ok", "not_needed")]
        return "; ".join(f"{one.number} {one.status}: {one.detail or 'no reason given'}" for one in left_out[:4])


def totals_of(candidates: Sequence[Candidate], seconds: float) -> Totals:
    scored = [candidate for candidate in candidates if candidate.status == "ok"]
    needed = [candidate for candidate in candidates if candidate.status != "not_needed"]
    return Totals(
        drawn=len(candidates),
        scored=len(scored),
        left_out=len(needed) - len(scored),
        tokens=sum(candidate.tokens for candidate in candidates),
        scored_tokens=sum(candidate.scored_tokens for candidate in candidates),
        cached_tokens=sum(candidate.cached_tokens for candidate in candidates),
        seconds=seconds,
    )
