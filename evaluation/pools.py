"""One question's candidates with all that is known of them, and what each selector makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation import selection
from evaluation.aggregates import AGGREGATES, NAMES
from evaluation.candidates import Solution
from evaluation.records import Result
from steelyard.best_of_n.answers import normal
from steelyard.schema import Aggregate

Selector = str


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of one question that every model scored, at least one; all lists are in the same order."""

    seed: str
    form: str
    correct: tuple[bool, ...]
    answers: tuple[str | None, ...]
    process: Mapping[Aggregate, tuple[float, ...]]
    outcome: tuple[float, ...] | None


def make_pool(seed: str, form: str, solutions: Sequence[Solution], results: Mapping[str, Sequence[Result]]) -> Pool:
    """From results by the kind of model; every one of them has a score."""
    steps = [result.step_scores for result in results.get("steps", ()) if result.step_scores is not None]
    outcome = [result.score for result in results.get("outcome", ()) if result.score is not None]
    return Pool(
        seed=seed,
        form=form,
        correct=tuple(solution.correct for solution in solutions),
        answers=tuple(normal(solution.answer) for solution in solutions),
        process={name: tuple(map(AGGREGATES[name], steps)) for name in NAMES} if steps else {},
        outcome=tuple(outcome) or None,
    )


def selectors(pool: Pool) -> list[Selector]:
    """All that these models allow, the same for every pool of a run."""
    by_models = [f"process, {name}" for name in pool.process]
    by_models += ["outcome"] if pool.outcome else []
    by_models += ["blended"] if pool.outcome and pool.process else []
    return ["random", "majority", *by_models, "oracle"]


def accuracy(pool: Pool, selector: Selector, n: int, blend: float, blend_aggregate: Aggregate) -> float:
    """The chance that the chosen one of N is right, N being at most the pool's size."""
    n = min(n, len(pool.correct))
    seed = f"{pool.seed} {n}"
    if selector == "random":
        return selection.by_chance(pool.correct)
    if selector == "oracle":
        return selection.oracle(pool.correct, n)
    if selector == "majority":
        return selection.by_vote(pool.answers, pool.correct, n, seed)
    if selector == "blended":
        assert pool.outcome is not None
        process = pool.process[blend_aggregate]
        return selection.blended(process, pool.outcome, blend, pool.correct, n, seed)
    scores = pool.outcome if selector == "outcome" else _process(pool, selector)
    assert scores is not None
    return selection.by_score(scores, pool.correct, n)


def _process(pool: Pool, selector: Selector) -> tuple[float, ...]:
    return next(scores for name, scores in pool.process.items() if selector == f"process, {name}")
