"""Pictures as InternVL's `load_image` cuts them into tiles, pixel for pixel. Torch-free."""

import io
import struct
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

# ImageNet's, by channel: what a network normalises pixels of 0 to 1 with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")

# A file's parts, each of which costs a few reads: what a header and what pixels take, and many times that. A file of
# the permitted size could be made of millions of empty ones.
_HEADER_READS, _PIXEL_READS = 10_000, 2_000_000
# Each of a JPEG's scans may go over every pixel, and costs a few dozen bytes; a progressive one has about ten.
_MOST_SCANS = 64
_START_OF_SCAN = b"\xff\xda"
# Behind the signature come the first chunk's length and kind, then its width and height.
_PNG, _PNG_SIZE_END = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 24

Tiles = npt.NDArray[np.uint8]
Grid = tuple[int, int]

# Pillow's own check warns half-way to its limit, and warnings cannot be caught in one thread alone. It would also
# refuse what the reference reads: `read_header` checks the size instead.
Image.MAX_IMAGE_PIXELS = None
# What Pillow finds odd in a file that it reads all the same (tags of a TIFF) is no news to whoever runs a server.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class NotAPicture(Exception):
    """The bytes do not begin a picture of an allowed format."""


class UnreadablePicture(Exception):
    """The header is a picture's, the pixels cannot be decoded."""


class TooManyPixels(Exception):
    """The header promises more pixels than are allowed."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} × {height} pixels")
        self.width = width
        self.height = height


class Header(NamedTuple):
    """`width` and `height` in pixels as stored: no orientation is applied."""

    format: str
    width: int
    height: int


class _Parts(io.BytesIO):
    """A file in memory whose reads are counted: past `left` of them it raises."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = _HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise UnreadablePicture("the file has too many parts")
        return super().read(size)


def read_header(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> Header:
    """Format and size, without decoding a pixel. Raises NotAPicture and TooManyPixels."""
    # A PNG's size stands at its very front, before texts that may unpack to 64 MiB.
    if data.startswith(_PNG) and "PNG" in formats and len(data) >= _PNG_SIZE_END:
        width, height = struct.unpack(">II", data[_PNG_SIZE_END - 8 : _PNG_SIZE_END])
        _check_size(width, height, max_pixels)
    try:
        with Image.open(_Parts(data), formats=list(formats)) as image:
            header = Header(image.format or "", image.width, image.height)
    except Exception as error:  # noqa: BLE001 - Pillow's parsers raise whatever a broken header makes them
        raise NotAPicture(str(error)) from None
    if header.width < 1 or header.height < 1:
        raise NotAPicture("the picture has no pixels")
    _check_size(header.width, header.height, max_pixels)
    return header


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(width, height)


def open_rgb(data: bytes) -> Image.Image:
    """Decode the first frame as `convert("RGB")` does: alpha is dropped, no orientation is applied.

    Check the size with `read_header` first. Raises UnreadablePicture.
    """
    file = _Parts(data)
    try:
        with Image.open(file, formats=list(FORMATS)) as image:
            if image.format in ("JPEG", "MPO") and data.count(_START_OF_SCAN) > _MOST_SCANS:
                raise UnreadablePicture(f"a JPEG of more than {_MOST_SCANS} scans")
            file.left = _PIXEL_READS
            image.load()
            # It changes no pixel of an RGB copy, but makes Pillow warn and, with a full palette, fail.
            image.info.pop("transparency", None)
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise UnreadablePicture("not a picture") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever broken data makes them
        raise UnreadablePicture(str(error)) from None


def choose_grid(width: int, height: int, tile_size: int, min_tiles: int, max_tiles: int) -> Grid:
    """(columns, rows) whose ratio is nearest the picture's; in a tie the later grid wins if the picture is large.

    Large is more than half of the grid's own pixels.
    """
    ratio = width / height
    best, least = (1, 1), float("inf")
    for columns, rows in _grids(min_tiles, max_tiles):
        difference = abs(ratio - columns / rows)
        tied = difference == least and width * height > 0.5 * tile_size * tile_size * columns * rows
        if difference < least or tied:
            best, least = (columns, rows), difference
    return best


@lru_cache(maxsize=64)
def _grids(min_tiles: int, max_tiles: int) -> tuple[Grid, ...]:
    # Grids of the same size stay in the order of this set, as in the reference, and ties are decided by it. A set's
    # order depends on its history of insertions, so it has to be filled as the reference fills it.
    grids = {
        (i, j)
        for n in range(min_tiles, max_tiles + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if min_tiles <= i * j <= max_tiles
    }
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def count_tiles(grid: Grid, thumbnail: bool) -> int:
    """Tiles of a picture cut by `grid`; more than one are followed by the whole picture as a thumbnail."""
    tiles = grid[0] * grid[1]
    return tiles + 1 if thumbnail and tiles != 1 else tiles


def cut(image: Image.Image, grid: Grid, tile_size: int, thumbnail: bool) -> Tiles:
    """An RGB picture resized to the grid, its aspect ratio not kept: (tiles, size, size, 3), row by row."""
    columns, rows = grid
    whole = np.asarray(_resize(image, columns * tile_size, rows * tile_size))
    tiles = whole.reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)
    tiles = tiles.reshape(rows * columns, tile_size, tile_size, 3)
    if count_tiles(grid, thumbnail) == len(tiles):
        return tiles
    return np.concatenate([tiles, np.asarray(_resize(image, tile_size, tile_size))[None]])


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)
