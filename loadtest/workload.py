"""Groups that are easy to make: a drawn shape, a question about it, and candidates that say right and wrong things."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

_SHAPES = ("circle", "triangle", "rectangle")
_COLORS = ("red", "green", "blue", "black", "yellow", "teal", "brown", "gray")
_SIDE, _LEAST, _MOST = 64, 12, 28
# How many pictures there are, as a training set shows each of its pictures often.
_PICTURES = 32


@dataclass(frozen=True, slots=True)
class Group:
    """A question, at most one picture (a PNG file), and candidates as their steps."""

    question: str
    pictures: tuple[bytes, ...]
    candidates: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many candidates of how many steps a group has, and the share of groups with a picture."""

    candidates: int = 4
    steps: int = 3
    pictures: float = 0.5


def groups(shape: Shape, seed: int) -> Iterator[Group]:
    """Without end, each with a number of its own in the question, so that no two are alike."""
    draws = random.Random(seed)
    pictures = [_picture(draws) for _ in range(_PICTURES)]
    number = 0
    while True:
        number += 1
        picture, form, color = draws.choice(pictures)
        shown = (picture,) if draws.random() < shape.pictures else ()
        asked = draws.choice((f"what is the {color} shape", f"what is the color of the {form}"))
        candidates = tuple(_candidate(draws, shape.steps) for _ in range(shape.candidates))
        yield Group(f"case {number}: {asked}?", shown, candidates)


def _candidate(draws: random.Random, steps: int) -> tuple[str, ...]:
    form, color = draws.choice(_SHAPES), draws.choice(_COLORS)
    says = (f"I see a {form}.", f"The color is {color}.", f"The {form} is {draws.choice(_COLORS)}.")
    return (*(draws.choice(says) for _ in range(steps - 1)), f"Answer: {draws.choice((form, color))}")


def _picture(draws: random.Random) -> tuple[bytes, str, str]:
    """A PNG file, the form and the color that it shows."""
    form, color = draws.choice(_SHAPES), draws.choice(_COLORS)
    image = Image.new("RGB", (_SIDE, _SIDE), (255, 255, 255))
    width, height = draws.randint(_LEAST, _MOST), draws.randint(_LEAST, _MOST)
    left, top = draws.randint(0, _SIDE - width), draws.randint(0, _SIDE - height)
    right, bottom = left + width, top + height
    pen = ImageDraw.Draw(image)
    match form:
        case "circle":
            pen.ellipse((left, top, right, top + width), fill=color)
        case "triangle":
            pen.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=color)
        case _:
            pen.rectangle((left, top, right, bottom), fill=color)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), form, color
