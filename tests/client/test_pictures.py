"""Every form of a picture becomes the same bytes under the same id, or a clear error."""

import base64
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from steelyard.errors import InvalidPicture
from steelyard.pictures import Album, Picture, PictureLike, load
from steelyard.schema import StoredImage

CIRCLE = Path(__file__).parents[2] / "examples" / "circle.png"
ID = "sha256:" + hashlib.sha256(CIRCLE.read_bytes()).hexdigest()


def content(source: PictureLike) -> bytes:
    loaded = load(source)
    assert isinstance(loaded, Picture)
    assert loaded.id == "sha256:" + hashlib.sha256(loaded.content).hexdigest()
    return loaded.content


def pixels(source: PictureLike) -> Image.Image:
    return Image.open(io.BytesIO(content(source)))


def refusal(source: object) -> str:
    with pytest.raises(InvalidPicture) as caught:
        load(source)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        CIRCLE,
        str(CIRCLE),
        CIRCLE.read_bytes(),
        bytearray(CIRCLE.read_bytes()),
        memoryview(CIRCLE.read_bytes()),
        "data:image/png;base64," + base64.b64encode(CIRCLE.read_bytes()).decode(),
        "DATA:;BASE64," + base64.b64encode(CIRCLE.read_bytes()).decode(),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in CIRCLE.read_bytes()),
    ],
    ids=["path", "name", "bytes", "bytearray", "memoryview", "data", "upper-case data", "percent data"],
)
def test_a_file_in_any_form_is_sent_as_its_own_bytes(source: PictureLike) -> None:
    assert content(source) == CIRCLE.read_bytes()


def test_an_id_stays_an_id() -> None:
    assert load(ID) == ID
    assert load(StoredImage(id=ID, width=1, height=1, bytes=1)) == ID


@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
            lambda size: st.sampled_from([size, (*size, 1), (*size, 3), (*size, 4)])
        ),
    )
)
def test_an_array_is_sent_without_loss(array: npt.NDArray[np.uint8]) -> None:
    sent = np.asarray(pixels(array))
    assert np.array_equal(sent, array.reshape(array.shape[:2]) if array.shape[2:] == (1,) else array)


def test_an_array_that_lies_scattered_in_memory_is_sent_as_it_looks() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for view in (whole[::2, ::-1], whole.transpose(1, 0, 2), np.asfortranarray(whole)):
        assert np.array_equal(np.asarray(pixels(view)), view)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pil_image_is_sent_without_loss(mode: str) -> None:
    image = Image.linear_gradient("L").convert("L" if mode == "I;16" else "RGB").convert(mode)
    sent = pixels(image)
    assert sent.mode == mode
    assert sent.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_a_mode_that_png_lacks_is_sent_as_the_server_would_read_it(mode: str) -> None:
    image = Image.linear_gradient("L").convert("RGB").convert(mode)
    assert pixels(image).tobytes() == image.convert("RGB").tobytes()


def test_equal_pixels_have_one_id() -> None:
    array = np.zeros((4, 5, 3), np.uint8)
    assert content(array) == content(array.copy()) == content(Image.new("RGB", (5, 4)))


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("https://example.com/a.png", "no URL is fetched"),
        ("HTTP://example.com/a.png", "no URL is fetched"),
        ("no-such-file.png", "there is no such file"),
        (base64.b64encode(CIRCLE.read_bytes()).decode() * 40, "give a path, bytes"),
        (Path("data:x"), "there is no such file"),
        (CIRCLE.parent, "directory"),
        ("nul\0.png", "null byte"),
        ("half \ud800.png", "give a path"),
        ("", "directory"),
        (b"", "empty"),
        ("sha256:abc", "64 lower-case hex digits"),
        (ID.upper(), "64 lower-case hex digits"),
        ("data:image/png;base64", "comma"),
        ("data:;base64,%%%", "cannot be decoded"),
        ("data:;base64,é", "cannot be decoded"),
        ("data:,\ud800", "cannot be decoded"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4), bool), "uint8"),
        (np.zeros((4,), np.uint8), "shape (4,)"),
        (np.zeros((3, 4, 4), np.uint8)[..., :2], "channels"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape (2, 4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "shape (0, 4, 3)"),
        (Image.new("F", (2, 2)), "mode F"),
        (Image.new("RGB", (0, 4)), "cannot be encoded"),
        (42, "int is no picture"),
        (None, "NoneType is no picture"),
        ([CIRCLE], "list is no picture"),
    ],
)
def test_what_is_no_picture_is_said_clearly(source: object, word: str) -> None:
    message = refusal(source)
    assert word in message
    assert len(message) < 400


def test_a_truncated_pil_image_is_said_clearly() -> None:
    assert "cannot be encoded" in refusal(Image.open(io.BytesIO(CIRCLE.read_bytes()[:150])))


def test_a_picture_given_twice_is_one_picture() -> None:
    image = Image.new("RGB", (4, 4))
    album = Album()
    references = album.refer_all([image, image, CIRCLE, str(CIRCLE), CIRCLE.read_bytes(), ID])
    assert references == [references[0]] * 2 + [ID] * 4
    assert list(album.pictures) == [references[0], ID]


@pytest.mark.parametrize("source", ["a.png", CIRCLE, b"png", np.zeros((4, 4, 3), np.uint8), Image.new("L", (4, 4))])
def test_one_picture_is_no_list_of_pictures(source: object) -> None:
    with pytest.raises(InvalidPicture, match=r"one picture is \[picture\]"):
        Album().refer_all(source)  # type: ignore[arg-type]


def test_a_file_is_sent_without_pillow_and_an_array_says_what_it_lacks() -> None:
    code = f"""
import sys
sys.modules["PIL"] = None
import numpy
from steelyard.pictures import load
from steelyard.errors import InvalidPicture
assert load({str(CIRCLE)!r}).id == {ID!r}
try:
    load(numpy.zeros((4, 4, 3), numpy.uint8))
except InvalidPicture as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(CIRCLE.parents[1] / "client")}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "pip install 'steelyard[pictures]'" in ended.stdout
