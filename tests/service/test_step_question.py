"""Where a process reward model sees the pictures of a user's turn."""

import pytest

from service.errors import InvalidRequest
from service.step_question import question_of
from steelyard.schema import Content, FramesPart, ImagePart, ImageURL, Part, TextPart


def content(*parts: str) -> list[Part]:
    """What begins with @ is a picture."""
    return [ImagePart(image_url=ImageURL(url=p[1:])) if p.startswith("@") else TextPart(text=p) for p in parts]


@pytest.mark.parametrize(
    ("given", "images", "text", "pictures"),
    [
        ("Which?", [], "Which?", []),
        ("\nWhich?", ["a"], "\nWhich?", ["a"]),
        (content("@a", "Which?"), [], "Which?", ["a"]),
        (content("@a", "\nWhich?"), [], "Which?", ["a"]),
        (content("", "@a", "@b", "Which", "?"), ["c"], "Which?", ["c", "a", "b"]),
        (content("@a"), [], "", ["a"]),
        (content("Which?", "@a"), [], "Which?<image>", ["a"]),
        (content("@a", "or", "@b", "?"), ["c"], "<image>\n<image>or<image>?", ["c", "a", "b"]),
    ],
)
def test_pictures_that_lead_the_turn_have_the_models_place(
    given: Content, images: list[str], text: str, pictures: list[str]
) -> None:
    assert question_of(given, images) == (text, pictures)


def test_a_video_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no video"):
        question_of([FramesPart(frames=["a"])])
