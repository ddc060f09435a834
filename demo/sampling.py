"""Training and test examples: each chain with one picture that makes it right and one that makes it wrong."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from demo.chains import Chain, nearby, reason, spoil
from demo.facts import Facts
from demo.questions import Question, every_question

# More often than a policy errs so: few steps of a spoiled chain are its error, and it is the hardest to learn.
_SPOILED = 0.6
_CHANGED = 0.8


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain that was reasoned from the first picture, and another picture, of which some of it is false.

    `seen` and `other` are indices of pictures.
    """

    chain: Chain
    seen: int
    other: int


class Pairs:
    """Draws pairs from a split's pictures; what a draw gives depends on its random numbers alone."""

    def __init__(self, facts: Sequence[Facts]) -> None:
        self._facts = facts
        self._showing: dict[Facts, list[int]] = defaultdict(list)
        for index, found in enumerate(facts):
            self._showing[found].append(index)
        self._by_form: dict[str, list[Question]] = defaultdict(list)
        for question in every_question():
            self._by_form[question.form].append(question)

    def draw(self, random: Random, *, spoiled: float = _SPOILED) -> tuple[Pair, Pair]:
        """Two chains on one question, each reasoned from the picture that makes the other's false."""
        one = random.randrange(len(self._facts))
        question = self._ask(self._facts[one], random)
        other = random.choice(self._showing[self._elsewhere(question, self._facts[one], random)])
        drawn = []
        for seen, unseen in ((one, other), (other, one)):
            chain = reason(question, self._facts[seen], random)
            if random.random() < spoiled:
                chain = spoil(chain, random)
            drawn.append(Pair(chain, seen, unseen))
        return drawn[0], drawn[1]

    def _ask(self, facts: Facts, random: Random) -> Question:
        form = self._by_form[random.choice(sorted(self._by_form))]
        suited = [question for question in form if question.suits(facts)]
        if suited[0].asked == "presence" and random.random() < 0.5:
            suited = [question for question in suited if question.subject in (facts.shape, facts.color)]
        return random.choice(suited)

    def _elsewhere(self, question: Question, facts: Facts, random: Random) -> Facts:
        """Facts of the other picture; where presence is asked for, mostly such that the answer changes."""
        for _ in range(20):
            found = nearby(question, facts, random)
            changes = question.answer(found) != question.answer(facts)
            if found in self._showing and (changes or random.random() > _CHANGED):
                return found
        return next(found for found in self._showing if found != facts and question.suits(found))
