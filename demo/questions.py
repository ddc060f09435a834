"""easy-vqa's questions: what each asks, what it presupposes and what answers it."""

import re
from dataclasses import dataclass
from typing import Literal

from demo.facts import ALL_FACTS, COLORS, SHAPES, Facts

Asked = Literal["shape", "color", "presence"]

_WORD = re.compile(r"[a-z]+")
_NEGATIONS = {"not", "no"}
_NOUNS = ("a {} shape", "a {}")
_PRESENCE = (
    "is there {}?",
    "is there {} in the image?",
    "is {} present?",
    "does the image contain {}?",
    "is there not {}?",
    "is there not {} in the image?",
    "does the image not contain {}?",
)
_OPEN_SHAPE = ("what shape is in the image?", "what shape does the image contain?", "what shape is present?")
_OPEN_COLOR = ("what color is the shape?", "what is the color of the shape?")


@dataclass(frozen=True, slots=True)
class Question:
    """`subject` is the shape or color that the text names, None where it names none."""

    text: str
    asked: Asked
    subject: str | None
    negated: bool

    @property
    def form(self) -> str:
        """What its accuracy is stated for: shape, color, or has and lacks of either."""
        if self.asked != "presence":
            return self.asked
        return f"{'lacks' if self.negated else 'has'} {'shape' if self.subject in SHAPES else 'color'}"

    @property
    def matter(self) -> Literal["shape", "color"]:
        """The fact that decides the answer."""
        if self.asked == "presence":
            return "shape" if self.subject in SHAPES else "color"
        return self.asked

    def suits(self, facts: Facts) -> bool:
        """Whether what it presupposes holds: an open question's shape or color is the picture's."""
        return self.asked == "presence" or self.subject is None or self.subject in (facts.shape, facts.color)

    def answer(self, facts: Facts) -> str:
        if self.asked == "presence":
            return "yes" if (self.subject in (facts.shape, facts.color)) != self.negated else "no"
        return facts.shape if self.asked == "shape" else facts.color


def parse(text: str) -> Question:
    """Read one of easy-vqa's questions."""
    words = _WORD.findall(text)
    subject = next((word for word in words if word in COLORS or word in SHAPES), None)
    if words[0] != "what":
        return Question(text, "presence", subject, bool(_NEGATIONS & set(words)))
    return Question(text, "color" if "color" in words else "shape", subject, negated=False)


def every_question() -> tuple[Question, ...]:
    """All questions of easy-vqa's forms."""
    texts = [*_OPEN_SHAPE, *_OPEN_COLOR]
    texts += [f"what is the {color} shape?" for color in COLORS]
    texts += [
        text.format(shape) for shape in SHAPES for text in ("what color is the {}?", "what is the color of the {}?")
    ]
    for noun, subjects in zip(_NOUNS, (COLORS, SHAPES), strict=True):
        for subject in subjects:
            named = noun.format(subject)
            texts += [form.format(named) for form in _PRESENCE]
            texts.append(f"is no {named.removeprefix('a ')} present?")
    return tuple(parse(text) for text in texts)


def claim(question: Question, answer: str) -> frozenset[Facts]:
    """The facts of which an answer is true."""
    return frozenset(facts for facts in ALL_FACTS if question.answer(facts) == answer)
