"""The policy a step at a time: what it says next after what it has said, with the probabilities of its whole chains."""

from collections.abc import Sequence
from random import Random

from demo.chains import Role, plans, sayings
from demo.facts import Facts
from demo.policy import Asked, perceptions

ANSWER = "Answer: "


class Unheard(ValueError):
    """The policy would never have said so."""


def is_whole(said: Sequence[str]) -> bool:
    """Whether there is an answer, after which it says no more."""
    return bool(said) and said[-1].startswith(ANSWER)


def next_step(asked: Asked, seed: int, said: Sequence[str], random: Random) -> str:
    """Drawn from what follows `said` in the chains that begin so. Raises Unheard when none does."""
    ways = [
        (seen, roles, seen_chance * plan_chance * _chance(asked, seen, roles, said))
        for seen, seen_chance in sorted(perceptions(asked, seed).items())
        for roles, plan_chance in plans(asked.question).items()
    ]
    possible = [way for way in ways if way[2] > 0]
    if not possible:
        raise Unheard("this policy does not begin so")
    ((seen, roles, _),) = random.choices(possible, [chance for _, _, chance in possible])
    return random.choice(sayings(roles[len(said)], asked.question, seen))


def whole_chain(asked: Asked, seed: int, said: Sequence[str], random: Random) -> list[str]:
    """What was said and all that follows. Raises Unheard."""
    steps = list(said)
    while not is_whole(steps):
        steps.append(next_step(asked, seed, steps, random))
    return steps


def _chance(asked: Asked, seen: Facts, roles: Sequence[Role], said: Sequence[str]) -> float:
    """That so much was said, by a policy that sees this and speaks in this order; more must be to come."""
    if len(said) >= len(roles):
        return 0.0
    chance = 1.0
    for role, text in zip(roles, said, strict=False):
        texts = sayings(role, asked.question, seen)
        chance *= texts.count(text) / len(texts)
    return chance
