"""What is the same to the reward model becomes one call, and each sample finds its score again."""

import io
import random
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from steelyard.errors import InvalidPicture
from steelyard.pictures import Picture
from steelyard.trainers.grouping import MOST_CANDIDATES, gather
from steelyard.trainers.picture_sources import listed
from steelyard.trainers.samples import PictureSource, Sample


def pixels(value: int) -> Image.Image:
    return Image.new("RGB", (3, 2), (value, 0, 0))


def file(value: int) -> bytes:
    content = io.BytesIO()
    pixels(value).save(content, "PNG")
    return content.getvalue()


def sizes(*images: PictureSource) -> list[int]:
    """Of the groups of one question about these pictures, each of them with a response of its own."""
    samples = [Sample("Which?", [image], f"{place}") for place, image in enumerate(images)]
    return [len(group.candidates) for group in gather(samples)]


def test_every_sample_has_its_place_whatever_their_order() -> None:
    kinds = [(question, image, response) for question in "ab" for image in (1, 2) for response in ("x", "y", "z")] * 2
    random.Random(0).shuffle(kinds)
    groups = gather([Sample(question, [pixels(image)], response) for question, image, response in kinds])
    assert len(groups) == 4
    for group in groups:
        (image,) = group.question.pictures
        for candidate, places in zip(group.candidates, group.places, strict=True):
            assert len(places) == 2
            assert {kinds[place] for place in places} == {
                (group.question.as_text(), image.getpixel((0, 0))[0], candidate)  # type: ignore[union-attr]
            }
    assert sorted(place for group in groups for places in group.places for place in places) == list(range(len(kinds)))


def test_pictures_are_the_same_by_their_content() -> None:
    assert sizes(pixels(1), pixels(1), pixels(2)) == [2, 1]
    assert sizes(file(1), bytearray(file(1)), {"bytes": file(1), "path": None}, file(2)) == [3, 1]
    assert sizes("a.png", {"bytes": None, "path": "a.png"}, "b.png") == [2, 1]
    assert sizes(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)) == [2, 1]


def test_equal_pixels_of_another_size_mode_or_palette_are_another_picture() -> None:
    palette = Image.new("P", (2, 2))
    palette.putpalette([9, 9, 9])
    others = [Image.new("L", (2, 2)), Image.new("L", (4, 1)), Image.new("P", (2, 2)), palette]
    assert sizes(*others) == [1, 1, 1, 1]


def test_a_picture_that_cannot_be_read_is_left_for_the_client_to_name() -> None:
    broken = Image.open(io.BytesIO(file(1)[:45]))
    assert sizes(broken, broken, pixels(1)) == [2, 1]


def test_a_mapping_that_holds_no_picture_is_refused() -> None:
    with pytest.raises(InvalidPicture, match="'uri'"):
        sizes({"uri": "x"})


def test_a_column_of_a_row_is_a_list_of_pictures_one_or_none() -> None:
    assert listed(None) == []
    assert listed([b"x", None, "y"]) == [b"x", "y"]
    assert listed("y") == ["y"]


def test_a_text_and_the_list_of_its_steps_are_two_candidates() -> None:
    (group,) = gather([Sample("Which?", [], response) for response in ("a", ["a"], ("a",), "a")])
    assert group.candidates == ("a", ("a",))
    assert group.places == ((0, 3), (1, 2))


def test_more_candidates_than_a_server_takes_are_several_groups() -> None:
    groups = gather([Sample("Which?", [], f"{place}") for place in range(MOST_CANDIDATES + 1)])
    assert [len(group.candidates) for group in groups] == [MOST_CANDIDATES, 1]
    assert groups[1].places == ((MOST_CANDIDATES,),)


def test_no_samples_are_no_groups() -> None:
    assert gather([]) == []


def test_equal_bytes_are_one_picture_with_its_hash() -> None:
    contents: list[PictureSource] = [
        b"one",
        bytearray(b"one"),
        memoryview(b"one"),
        Picture("sha256:" + sha256(b"one").hexdigest(), b"one"),
    ]
    first, second = gather([Sample(question, [content], "a") for question in "QR" for content in contents])
    assert isinstance(first.question.pictures[0], Picture)
    assert first.question.pictures[0] is second.question.pictures[0]
    assert first.places == ((0, 1, 2, 3),)


def test_an_empty_picture_is_left_for_the_call_to_refuse() -> None:
    (group,) = gather([Sample("Q", [b""], "a"), Sample("Q", [b""], "b")])
    assert group.question.pictures == (b"",)
