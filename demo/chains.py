"""Chains of reasoning about a picture, and the label of each step: the grammar behind all training data.

A step is right iff it is true of the picture and follows from its chain: it bears on the question and contradicts
nothing said before. VisualPRM's paper labels a step by whether continuations from it succeed, which differs: here a
true step after a wrong one is right.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

from demo.facts import ALL_FACTS, COLORS, SHAPES, Facts
from demo.questions import Question, claim

Role = Literal["shape", "color", "inference", "answer", "irrelevant"]
Kind = Literal["wrong shape", "wrong color", "wrong inference", "irrelevant", "contradiction"]

_SHAPE = (
    "The shape is a {}.",
    "I see a {}.",
    "The picture shows a {}.",
    "It is a {}.",
    "There is one shape, a {}.",
)
_COLOR = (
    "The shape is {}.",
    "Its color is {}.",
    "The color is {}.",
    "It is {}.",
    "I see something {}.",
)
_PRESENT = ("So there is {}.", "So the picture has {}.", "That means {} is present.")
_ABSENT = ("So there is not {}.", "So the picture does not have {}.", "That means {} is not present.")
_ASKED = {
    "shape": ("So the shape asked for is a {}.", "That makes it a {}."),
    "color": ("So the color asked for is {}.", "That makes the color {}."),
}
# How often a chain speaks of both facts, and how often it infers.
_OTHER_TOO, _INFERRED = 0.6, 0.7
_IRRELEVANT = (
    "A triangle has three sides.",
    "Red and blue make purple.",
    "A circle has no corners.",
    "Pictures are made of pixels.",
    "A rectangle has four sides.",
    "Many people like green.",
)


@dataclass(frozen=True, slots=True)
class Step:
    """`claims` are the facts of which the text is true; a step beside the question claims nothing."""

    text: str
    role: Role
    claims: frozenset[Facts] = ALL_FACTS


@dataclass(frozen=True, slots=True)
class Judged:
    """A step's label for one picture; a wrong step has a kind, `by_text` where the text alone shows it."""

    right: bool
    kind: Kind | None = None
    by_text: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """A question and the steps of one response to it, the answer last."""

    question: Question
    steps: tuple[Step, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(step.text for step in self.steps)

    @property
    def answer(self) -> str:
        return self.steps[-1].text.removeprefix("Answer: ")

    def judge(self, facts: Facts) -> tuple[Judged, ...]:
        """Every step's label for a picture that shows these facts."""
        said, judged = ALL_FACTS, []
        for step in self.steps:
            judged.append(_judge(step, said, facts))
            # Nothing is built upon a step that contradicts what stands before it.
            said = said & step.claims or said
        return tuple(judged)

    def succeeds(self, facts: Facts) -> bool:
        """Whether the answer is the picture's."""
        return self.answer == self.question.answer(facts)


def reason(question: Question, seen: Facts, random: Random) -> Chain:
    """A chain that stays consistent with what was seen, be it the picture's or not."""
    matter = question.matter
    roles: list[Role] = [matter]
    if random.random() < _OTHER_TOO:
        roles.insert(random.randrange(2), "color" if matter == "shape" else "shape")
    if random.random() < _INFERRED:
        # An inference rests on what was perceived of the matter, wherever the other perception stands.
        roles.insert(random.randint(roles.index(matter) + 1, len(roles)), "inference")
    return Chain(question, tuple(_say(role, question, seen, random) for role in (*roles, "answer")))


def sayings(role: Role, question: Question, seen: Facts) -> tuple[str, ...]:
    """Every text that says this of what was seen, each as likely as another."""
    if role == "shape":
        return tuple(form.format(seen.shape) for form in _SHAPE)
    if role == "color":
        return tuple(form.format(seen.color) for form in _COLOR)
    if role == "answer":
        return (f"Answer: {question.answer(seen)}",)
    if question.asked != "presence":
        return tuple(form.format(question.answer(seen)) for form in _ASKED[question.asked])
    named = f"a {question.subject}" if question.subject in SHAPES else f"a {question.subject} shape"
    present = question.subject in (seen.shape, seen.color)
    return tuple(form.format(named) for form in (_PRESENT if present else _ABSENT))


def plans(question: Question) -> dict[tuple[Role, ...], float]:
    """The orders in which `reason` speaks of things, the answer last, each with its probability."""
    matter = question.matter
    other: Role = "color" if matter == "shape" else "shape"
    perceived: dict[tuple[Role, ...], float] = {
        (matter,): 1 - _OTHER_TOO,
        (other, matter): _OTHER_TOO / 2,
        (matter, other): _OTHER_TOO / 2,
    }
    found: dict[tuple[Role, ...], float] = {}
    for roles, chance in perceived.items():
        found[(*roles, "answer")] = chance * (1 - _INFERRED)
        places = range(roles.index(matter) + 1, len(roles) + 1)
        for place in places:
            found[(*roles[:place], "inference", *roles[place:], "answer")] = chance * _INFERRED / len(places)
    return found


def spoil(chain: Chain, random: Random) -> Chain:
    """The chain with one error that its text alone reveals."""
    at = random.randrange(len(chain.steps))
    kind = random.choice(("irrelevant", "contradiction", "wrong inference", "wrong inference"))
    steps = list(chain.steps)
    if kind == "irrelevant":
        steps.insert(at, Step(random.choice(_IRRELEVANT), "irrelevant"))
        return Chain(chain.question, tuple(steps))
    said = frozenset(ALL_FACTS).intersection(*(step.claims for step in steps if step.role in ("shape", "color")))
    other = random.choice(sorted(ALL_FACTS - _answered_alike(chain.question, said)))
    if kind == "contradiction":
        steps.insert(len(steps) - 1, _say(chain.question.matter, chain.question, other, random))
        return Chain(chain.question, tuple(steps))
    drawn = [index for index, step in enumerate(steps) if step.role in ("inference", "answer")]
    at = random.choice(drawn)
    steps[at] = _say(steps[at].role, chain.question, other, random)
    return Chain(chain.question, tuple(steps))


def flipping(chain: Chain, one: Facts, other: Facts) -> list[int]:
    """The steps that one picture makes right and the other wrong."""
    judged = zip(chain.judge(one), chain.judge(other), strict=True)
    return [index for index, (first, second) in enumerate(judged) if first.right != second.right]


def nearby(question: Question, facts: Facts, random: Random) -> Facts:
    """Other facts that suit the question: its matter changed, now and then the rest too."""
    shape, color = facts.shape, facts.color
    both = random.random() < 0.3
    free_shape, free_color = question.subject != shape, question.subject != color
    if question.asked == "presence":
        free_shape = free_color = True
    if free_shape and (both or question.matter == "shape"):
        shape = random.choice([other for other in SHAPES if other != shape])
    if free_color and (both or question.matter == "color"):
        color = random.choice([other for other in COLORS if other != color])
    return Facts(shape, color)


def _judge(step: Step, said: frozenset[Facts], facts: Facts) -> Judged:
    if step.role == "irrelevant":
        return Judged(right=False, kind="irrelevant", by_text=True)
    contradicts = not said & step.claims
    if not contradicts and facts in step.claims:
        return Judged(right=True)
    if step.role in ("inference", "answer"):
        return Judged(right=False, kind="wrong inference", by_text=contradicts)
    if contradicts:
        return Judged(right=False, kind="contradiction", by_text=True)
    return Judged(right=False, kind="wrong shape" if step.role == "shape" else "wrong color")


def _answered_alike(question: Question, said: frozenset[Facts]) -> frozenset[Facts]:
    """All facts that give the question an answer which what was said allows."""
    answers = {question.answer(facts) for facts in said}
    return frozenset(facts for facts in ALL_FACTS if question.answer(facts) in answers)


def _say(role: Role, question: Question, seen: Facts, random: Random) -> Step:
    texts = sayings(role, question, seen)
    text = texts[0] if role == "answer" else random.choice(texts)
    if role in ("shape", "color"):
        return Step(text, role, _of(role, seen))
    return Step(text, role, claim(question, question.answer(seen)))


def _of(matter: Literal["shape", "color"], seen: Facts) -> frozenset[Facts]:
    return frozenset(facts for facts in ALL_FACTS if getattr(facts, matter) == getattr(seen, matter))
