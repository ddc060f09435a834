"""What pictures show follows from their questions, and agrees with each of them."""

import easy_vqa
import pytest
from PIL import Image

from demo.facts import COLORS, SHAPES, Facts, Split, asked_questions, deduce, pictures
from demo.questions import every_question, parse
from tests.demo.truth import answer_of

_RGB = {"black": (0, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0), "yellow": (255, 255, 0)}


@pytest.mark.parametrize(("split", "count"), [("train", 3578), ("test", 888)])
def test_most_pictures_facts_follow(split: Split, count: int) -> None:
    assert len(pictures(split)) == count
    assert {picture.facts.color for picture in pictures(split)} == set(COLORS)
    assert {picture.facts.shape for picture in pictures(split)} == set(SHAPES)


def test_every_answer_of_the_data_set_is_the_grammar_s() -> None:
    numbers = {picture.path.stem: picture.facts for picture in pictures("test")}
    for text, answer, number in zip(*easy_vqa.get_test_questions(), strict=True):
        facts = numbers.get(str(number))
        if facts is not None:
            assert parse(text).answer(facts) == answer == answer_of(text, facts)


def test_the_pixels_bear_the_color() -> None:
    for picture in pictures("test")[:200]:
        if picture.facts.color in _RGB:
            with Image.open(picture.path) as image:
                colors = image.convert("RGB").getcolors(4096)
            assert colors is not None
            assert _RGB[picture.facts.color] in {color for _, color in colors}


def test_the_grammar_asks_what_the_data_set_asks() -> None:
    assert {question.text for question in every_question()} == set(asked_questions("train"))


def test_too_little_is_no_fact_and_a_presupposition_is_one() -> None:
    assert deduce([("what color is the shape?", "red")]) is None
    assert deduce([("what color is the circle?", "red")]) == Facts("circle", "red")
    others = [(f"is there a {shape}?", "no") for shape in SHAPES[:2]]
    assert deduce([("what color is the shape?", "red"), *others]) == Facts(SHAPES[2], "red")
