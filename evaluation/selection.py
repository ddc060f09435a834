"""The accuracy to expect when one of N candidates is chosen, over all ways to draw these N from a question's pool."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

from steelyard.blending import standardised

# Subsets are enumerated up to so many, and drawn beyond.
DRAWS = 100


def by_chance(correct: Sequence[bool]) -> float:
    """One candidate at random, whatever N: the mean."""
    return sum(correct) / len(correct)


def oracle(correct: Sequence[bool], n: int) -> float:
    """The chance that any of N is correct, exactly: pass@N."""
    wrong = len(correct) - sum(correct)
    return 1 - comb(wrong, n) / comb(len(correct), n)


def by_score(scores: Sequence[float], correct: Sequence[bool], n: int) -> float:
    """The candidate with the highest score, exactly; equal scores share the choice evenly."""
    pool = len(scores)
    blocks: dict[float, list[bool]] = defaultdict(list)
    for score, right in zip(scores, correct, strict=True):
        blocks[score].append(right)
    expected, below = 0.0, pool
    for score in sorted(blocks, reverse=True):
        reached, below = comb(below, n), below - len(blocks[score])
        # The best of the draw lies in this block: all N are of it or below, and not all of them below.
        expected += (reached - comb(below, n)) * by_chance(blocks[score])
    return expected / comb(pool, n)


def by_vote(answers: Sequence[str | None], correct: Sequence[bool], n: int, seed: str) -> float:
    """The answer that most of N give; equally frequent ones share the choice evenly, no answer has no vote."""

    def choose(drawn: Sequence[int]) -> float:
        votes: dict[str, list[bool]] = defaultdict(list)
        for index in drawn:
            answer = answers[index]
            if answer is not None:
                votes[answer].append(correct[index])
        most = max(map(len, votes.values()), default=0)
        winners = [by_chance(vote) for vote in votes.values() if len(vote) == most]
        return sum(winners) / len(winners) if winners else by_chance([correct[index] for index in drawn])

    return _over_subsets(len(correct), n, seed, choose)


def blended(
    ones: Sequence[float], others: Sequence[float], weight: float, correct: Sequence[bool], n: int, seed: str
) -> float:
    """The highest weighted sum of both scores, each first standardised within the N (weight is that of `ones`)."""

    def choose(drawn: Sequence[int]) -> float:
        first = standardised([ones[index] for index in drawn])
        second = standardised([others[index] for index in drawn])
        sums = [weight * a + (1 - weight) * b for a, b in zip(first, second, strict=True)]
        best = max(sums)
        return by_chance([correct[index] for index, value in zip(drawn, sums, strict=True) if value == best])

    return _over_subsets(len(correct), n, seed, choose)


def _over_subsets(pool: int, n: int, seed: str, choose: Callable[[Sequence[int]], float]) -> float:
    """The mean over all subsets of N where they are few, else over seeded draws."""
    if comb(pool, n) <= DRAWS:
        subsets = [list(subset) for subset in combinations(range(pool), n)]
    else:
        draw = random.Random(seed)
        subsets = [sorted(draw.sample(range(pool), n)) for _ in range(DRAWS)]
    return sum(map(choose, subsets)) / len(subsets)
