"""Candidates as a search is told of them, for tests without any I/O."""

from collections.abc import Iterable, Mapping

from steelyard.best_of_n.candidates import Candidate, Draw, Drawn, Fate, Worth, candidate_of
from steelyard.best_of_n.search import Limits, Reward, Search

STEPS = Reward("steps", bounded=True)
OUTCOME = Reward("outcome")


def limits(in_flight: int = 8, **budget: int) -> Limits:
    return Limits(in_flight, tokens=budget.get("tokens"), seconds=budget.get("seconds"), seed=budget.get("seed"))


def settled(
    draw: Draw | int,
    score: float | None,
    text: str = "Answer: a",
    *,
    status: Fate = "failed",
    tokens: int = 10,
    own: Mapping[str, float] | None = None,
    finished: bool = True,
) -> Candidate:
    """A score, or the status of a candidate that has none."""
    draw = Draw(draw, None) if isinstance(draw, int) else draw
    worth = Worth("ok", score, own=own or {}) if score is not None else Worth(status, detail="why")
    return candidate_of(draw, Drawn(text, tokens), worth, (0.0, 0.0, 0.0), finished=finished)


def play(search: Search, scores: Iterable[float | None], *texts: str) -> list[int]:
    """One draw after another until the search stops; the numbers that were drawn."""
    drawn, waiting = [], iter(scores)
    while search.stopped is None:
        for draw in search.due():
            drawn.append(draw.number)
            text = texts[draw.number] if texts else "Answer: a"
            search.generated(draw.number)
            search.settle(settled(draw, next(waiting), text))
    return drawn
