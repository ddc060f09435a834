"""The picture store: budget, time to live, and every form in which a picture is named."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_from_bytes

import pytest
from PIL import Image as Pillow

from service.errors import ImageTooLarge, InvalidRequest, TooManyPixels, UnknownImage, UnsupportedImage
from service.images import ImageStore, is_readable


def png(shade: int, size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def store(*, budget_bytes: int = 10_000, ttl_s: float = 60.0, max_pixels: int = 10_000) -> ImageStore:
    return ImageStore(budget_bytes=budget_bytes, ttl_s=ttl_s, max_image_bytes=5_000, max_pixels=max_pixels)


def test_a_picture_is_found_by_id_data_url_and_base64() -> None:
    images, content = store(), png(1)
    kept = images.put(content)
    encoded = base64.b64encode(content).decode()
    found = images.resolve([kept.id, f"data:image/png;base64,{encoded}", f"DATA:;BASE64,{encoded}", encoded])
    assert [image.id for image in found.values()] == [kept.id] * 4
    assert (kept.width, kept.height) == (8, 6)
    assert images.bytes == len(content)


def test_all_missing_ids_are_named_at_once() -> None:
    missing = ["sha256:" + digit * 64 for digit in "01"]
    with pytest.raises(UnknownImage) as caught:
        store().resolve([missing[0], base64.b64encode(png(1)).decode(), missing[1], missing[0]])
    assert all(caught.value.message.count(image_id) == 1 for image_id in missing)


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = png(1), png(2), png(3)
    images = store(budget_bytes=len(first) + len(second) + len(third) - 1)
    ids = [images.put(content).id for content in (first, second)]
    images.resolve([ids[0]])
    images.put(third)
    assert images.resolve([ids[0]])
    with pytest.raises(UnknownImage):
        images.resolve([ids[1]])
    assert images.bytes == len(first) + len(third)


def test_an_unused_picture_dies_with_its_time_to_live() -> None:
    images = store(ttl_s=1e-9)
    kept = images.put(png(1))
    with pytest.raises(UnknownImage):
        images.resolve([kept.id])
    assert images.bytes == 0


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("https://example.org/cat.png", InvalidRequest),
        ("HTTP://example.org/cat.png", InvalidRequest),
        ("data:image/png;base64", InvalidRequest),
        ("data:image/png;base64,====", InvalidRequest),
        ("not base64!", InvalidRequest),
        ("", UnsupportedImage),
        ("data:text/plain,hello", UnsupportedImage),
        (base64.b64encode(b"plain text").decode(), UnsupportedImage),
        (base64.b64encode(bytes(5_001)).decode(), ImageTooLarge),
        ("data:image/png," + "%41" * 200_001, ImageTooLarge),
        (base64.b64encode(png(1, (200, 100))).decode(), TooManyPixels),
    ],
)
def test_what_is_no_picture_is_refused_by_its_own_error(reference: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        store().resolve([reference])


def test_pixels_are_counted_for_each_different_picture_of_a_call() -> None:
    """The same files as frames in another order are decoded once more."""
    images = ImageStore(budget_bytes=10_000, ttl_s=60, max_image_bytes=5_000, max_pixels=10_000, max_call_pixels=200)
    one, other = images.put(png(1)), images.put(png(2))
    images.check_pixels([(one, other)] * 100)
    images.check_pixels([(one,), (other,), (one, other)])
    with pytest.raises(TooManyPixels):
        images.check_pixels([(one,), (other,), (one, other), (other, one)])


def test_a_cut_off_picture_is_known_to_be_unreadable() -> None:
    images = store()
    whole, cut = images.put(png(1)), images.put(png(2, (40, 40))[:-30])
    assert is_readable(whole)
    assert not is_readable(cut)
    assert not is_readable(cut)


def test_threads_that_put_the_same_picture_count_it_once() -> None:
    images, content = store(), png(7)
    with ThreadPoolExecutor(8) as pool:
        ids = {image.id for image in pool.map(images.put, [content] * 64)}
    assert len(ids) == 1
    assert images.bytes == len(content)


def test_the_pictures_of_a_call_have_a_limit_in_all_in_which_equal_ones_count_once() -> None:
    images = ImageStore(budget_bytes=10_000, ttl_s=60, max_image_bytes=5_000, max_pixels=1_000, max_call_pixels=100)
    one, two, three = (base64.b64encode(png(shade)).decode() for shade in (1, 2, 3))
    assert len(images.resolve([one, one, two, f"data:,{quote_from_bytes(png(2))}"])) == 3
    with pytest.raises(TooManyPixels, match="144 pixels in all; the limit is 100"):
        images.resolve([one, two, three])


def test_a_picture_knows_its_format() -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 6)).save(file, "TIFF")
    assert [store().put(content).format for content in (png(1), file.getvalue())] == ["PNG", "TIFF"]
