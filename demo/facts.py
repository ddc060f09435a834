"""What each easy-vqa picture shows, as far as it follows from the questions asked about it."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal

import easy_vqa

Split = Literal["train", "test"]
SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")

_WORD = re.compile(r"[a-z]+")
_NEGATIONS = {"not", "no"}


@dataclass(frozen=True, slots=True, order=True)
class Facts:
    """The one shape of a picture and its color."""

    shape: str
    color: str


ALL_FACTS = frozenset(Facts(shape, color) for shape, color in product(SHAPES, COLORS))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's file and what it shows."""

    path: Path
    facts: Facts


@cache
def pictures(split: Split) -> tuple[Picture, ...]:
    """The split's pictures whose shape and color both follow, by number."""
    asked: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for question, answer, number in zip(*_questions(split), strict=True):
        asked[number].append((question, answer))
    paths = easy_vqa.get_train_image_paths() if split == "train" else easy_vqa.get_test_image_paths()
    known = ((number, deduce(asked[number])) for number in sorted(paths))
    return tuple(Picture(Path(paths[number]), facts) for number, facts in known if facts is not None)


def asked_questions(split: Split) -> tuple[str, ...]:
    """The distinct questions of the split, sorted."""
    return tuple(sorted(set(_questions(split)[0])))


def deduce(asked: Iterable[tuple[str, str]]) -> Facts | None:
    """The only facts that agree with every question and answer, or None where several do."""
    possible = ALL_FACTS
    for question, answer in asked:
        possible &= _agreeing(question, answer)
    return next(iter(possible)) if len(possible) == 1 else None


@cache
def _agreeing(question: str, answer: str) -> frozenset[Facts]:
    """A question that names a color or shape beside the one that it asks for presupposes it."""
    words = set(_WORD.findall(question))
    named = frozenset(facts for facts in ALL_FACTS if _shows(facts, words))
    if answer not in ("yes", "no"):
        return frozenset(facts for facts in named if answer in (facts.shape, facts.color))
    present = (answer == "yes") != bool(words & _NEGATIONS)
    return named if present else ALL_FACTS - named


def _shows(facts: Facts, words: set[str]) -> bool:
    return words & set(SHAPES) <= {facts.shape} and words & set(COLORS) <= {facts.color}


def _questions(split: Split) -> tuple[list[str], list[str], list[int]]:
    found: tuple[list[str], list[str], list[int]]
    found = easy_vqa.get_train_questions() if split == "train" else easy_vqa.get_test_questions()
    return found
