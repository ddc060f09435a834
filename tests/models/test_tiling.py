import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import tiling
from models.tiling import NotAPicture, TooManyPixels, UnreadablePicture, choose_grid, count_tiles, cut, open_rgb
from tests.golden import GOLDEN, VISUAL_PRM, visual_prm_cases

SIZE = 56
CASES = [case for case in visual_prm_cases() if case["images"]]
FOLDERS = [VISUAL_PRM / "images", GOLDEN / "ixc_reward" / "images"]
PICTURES = [path for folder in FOLDERS for path in sorted(folder.iterdir()) if path.suffix != ".mp4"]


def encoded(image: Image.Image, format: str = "PNG", **options: bytes | bool | Image.Exif) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and holds none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_tiles_are_the_references(case: dict[str, Any]) -> None:
    grids, sizes, tiles = [], [], []
    for name in case["images"]:
        data = (VISUAL_PRM / name).read_bytes()
        header = tiling.read_header(data, max_pixels=10_000_000)
        grid = choose_grid(header.width, header.height, SIZE, 1, case["options"].get("max_num", 12))
        grids.append(list(grid))
        sizes.append([header.width, header.height])
        tiles.append(cut(open_rgb(data), grid, SIZE, thumbnail=True))
        assert len(tiles[-1]) == count_tiles(grid, thumbnail=True)
    expected = case["expected"]
    assert grids == expected["tile_grid_wh"]
    assert sizes == expected["image_sizes_wh"]
    assert [len(picture) for picture in tiles] == expected["num_patches_list"]
    assert hashlib.sha256(np.concatenate(tiles).tobytes()).hexdigest() == expected["tiles_rgb_u8_sha256"]


def original_grids(min_num: int, max_num: int) -> list[tuple[int, int]]:
    """The model card's own expression: the order of a set decides between grids of one size."""
    target_ratios = set(  # noqa: C401
        (i, j)
        for n in range(min_num, max_num + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if i * j <= max_num and i * j >= min_num
    )
    return sorted(target_ratios, key=lambda x: x[0] * x[1])


def original_choice(grids: list[tuple[int, int]], width: int, height: int, image_size: int) -> tuple[int, int]:
    """The model card's find_closest_aspect_ratio."""
    best_ratio_diff = float("inf")
    best_ratio = (1, 1)
    area = width * height
    for ratio in grids:
        ratio_diff = abs(width / height - ratio[0] / ratio[1])
        if ratio_diff < best_ratio_diff:
            best_ratio_diff = ratio_diff
            best_ratio = ratio
        elif ratio_diff == best_ratio_diff and area > 0.5 * image_size * image_size * ratio[0] * ratio[1]:
            best_ratio = ratio
    return best_ratio


@pytest.mark.parametrize("max_tiles", range(1, 25))
def test_grids_are_the_original_expressions_for_ties_and_all(max_tiles: int) -> None:
    grids = original_grids(1, max_tiles)
    # Ratios half-way between two grids tie; so do equal ratios, decided by area.
    halves = {(b * c + a * d, 2 * b * d) for a, b in grids for c, d in grids if a * b == c * d}
    sizes = halves | set(grids)
    for columns, rows in sizes:
        for scale in (1, 20, 100):
            width, height = columns * scale, rows * scale
            expected = original_choice(grids, width, height, SIZE)
            assert choose_grid(width, height, SIZE, 1, max_tiles) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 6), st.integers(0, 58), st.sampled_from([56, 448]))
def test_any_size_gets_the_original_grid(width: int, height: int, least: int, more: int, size: int) -> None:
    grids = original_grids(least, least + more)
    assert choose_grid(width, height, size, least, least + more) == original_choice(grids, width, height, size)


def test_a_thumbnail_follows_only_where_there_is_more_than_one_tile() -> None:
    assert count_tiles((1, 1), thumbnail=True) == 1
    assert count_tiles((3, 2), thumbnail=True) == 7
    assert count_tiles((3, 2), thumbnail=False) == 6
    assert cut(Image.new("RGB", (100, 50)), (2, 1), 8, thumbnail=False).shape == (2, 8, 8, 3)


def test_tiles_are_cut_row_by_row() -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3).repeat(8, 0).repeat(8, 1)).convert("RGB")
    tiles = cut(image, (3, 2), 8, thumbnail=False)
    assert [int(tile[4, 4, 0]) for tile in tiles] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_every_golden_picture_opens_as_it_does_for_the_reference(path: Path) -> None:
    data = path.read_bytes()
    header = tiling.read_header(data, max_pixels=10_000_000)
    image = open_rgb(data)
    assert image.size == (header.width, header.height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert image.tobytes() == Image.open(path).convert("RGB").tobytes()


def test_alpha_is_dropped_not_composited() -> None:
    image = open_rgb(encoded(Image.new("RGBA", (2, 2), (10, 20, 30, 0))))
    assert image.getpixel((0, 0)) == (10, 20, 30)


def test_palette_transparency_is_ignored() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert open_rgb(encoded(image, transparency=b"\xff\x00")).getpixel((0, 0)) == (10, 20, 30)


def test_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif)
    assert open_rgb(data).size == (4, 2)


def test_a_header_is_read_without_its_pixels() -> None:
    assert tiling.read_header(png_header(300, 200), max_pixels=60_000) == ("PNG", 300, 200)


@pytest.mark.parametrize("size", [(30_000, 30_000), (301, 200), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels) as raised:
        tiling.read_header(png_header(*size), max_pixels=60_000)
    assert (raised.value.width, raised.value.height) == size


def test_large_pictures_that_are_allowed_do_not_warn() -> None:
    assert tiling.read_header(png_header(15_000, 15_000), max_pixels=300_000_000).width == 15_000


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", png_header(0, 5)])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        tiling.read_header(data, max_pixels=10)
    with pytest.raises(UnreadablePicture):
        open_rgb(data)


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PCX"])
def test_other_formats_are_not_opened(format: str) -> None:
    data = encoded(Image.new("RGB", (16, 16)), format)
    with pytest.raises(NotAPicture):
        tiling.read_header(data, max_pixels=1000)
    with pytest.raises(UnreadablePicture):
        open_rgb(data)


def test_formats_can_be_narrowed() -> None:
    data = encoded(Image.new("RGB", (16, 16)), "BMP")
    assert tiling.read_header(data, max_pixels=1000).format == "BMP"
    with pytest.raises(NotAPicture):
        tiling.read_header(data, max_pixels=1000, formats=("PNG", "JPEG"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_truncated_picture_has_a_header_and_no_pixels(format: str) -> None:
    data = encoded(Image.effect_noise((90, 90), 50).convert("RGB"), format)
    assert len(open_rgb(data).getbands()) == 3
    with pytest.raises(UnreadablePicture):
        open_rgb(data[: len(data) // 2])


@given(st.sampled_from(PICTURES), st.randoms(use_true_random=False))
def test_broken_bytes_raise_nothing_else(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes()[:20_000])
    for _ in range(random.randint(1, 20)):
        data[random.randrange(min(len(data), 400))] = random.randrange(256)
    try:
        tiling.read_header(bytes(data), max_pixels=1_000_000)
        open_rgb(bytes(data))
    except (NotAPicture, TooManyPixels, UnreadablePicture):
        pass


def png_of_parts(count: int, kind: bytes, body: bytes) -> bytes:
    """A whole grey PNG of 9 × 9 with so many chunks more before its pixels."""
    header = struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(90)))
    signed = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return signed + chunk(kind, body) * count + pixels + chunk(b"IEND", b"")


MANY_PARTS = {
    "PNG": lambda count: png_of_parts(count, b"tEXt", b"k\0"),
    "JPEG": lambda count: (jpeg := encoded(Image.new("RGB", (8, 8)), "JPEG"))[:2] + b"\xff\xfe\0\2" * count + jpeg[2:],
}


@pytest.mark.parametrize("make", MANY_PARTS.values(), ids=MANY_PARTS)
def test_a_header_of_millions_of_parts_is_not_read_to_its_end(make: Callable[[int], bytes]) -> None:
    assert tiling.read_header(make(100), max_pixels=1000).width in (8, 9)
    with pytest.raises(NotAPicture):
        tiling.read_header(make(100_000), max_pixels=1000)
    with pytest.raises(UnreadablePicture):
        open_rgb(make(100_000))


def test_pixels_in_a_million_parts_are_not_decoded() -> None:
    with pytest.raises(UnreadablePicture):
        open_rgb(png_of_parts(1_000_000, b"IDAT", b""))


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    """Each scan goes over every pixel: 20 MiB of them would take hours."""
    jpeg = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert open_rgb(jpeg[:-2] + scan * 20 + jpeg[-2:]).size == (64, 64)
    with pytest.raises(UnreadablePicture, match="scans"):
        open_rgb(jpeg[:-2] + scan * 100 + jpeg[-2:])


def test_the_size_of_a_png_is_looked_at_before_its_texts() -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2_000_000), 9))
    with pytest.raises(TooManyPixels):
        tiling.read_header(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text, max_pixels=1000)


def test_threads_open_pictures_at_once() -> None:
    contents = [path.read_bytes() for path in PICTURES]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda data: open_rgb(data).size, contents * 3))
    assert sizes == [open_rgb(data).size for data in contents] * 3
