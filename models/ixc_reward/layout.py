"""How a picture is scaled, padded and counted in tokens, pixel for pixel as the reference does. Torch-free."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image

# CLIP's, by channel: what a network normalises pixels of 0 to 1 with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# What the reference opens, which it tells by a file's name; of several pictures each has at most SEVERAL_TILES.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
DEFAULT_TILES, SEVERAL_TILES = 24, 6

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

_WHITE = (255, 255, 255)


class UnusablePicture(Exception):
    """The reference refuses the picture: scaled to so few tiles, its short side has no pixel left."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture of `resized` (width, height) pixels on a canvas of `columns` × `rows` tiles, white where it ends.

    A tall picture is laid out lying on its side, mirrored across its main diagonal, and set upright again.
    """

    resized: Size
    columns: int
    rows: int
    tile_size: int

    @property
    def tiles(self) -> int:
        """What goes through the tower: the whole view too, unless a single tile is just that."""
        count = self.columns * self.rows
        return count if count == 1 else count + 1

    @property
    def padded(self) -> Size:
        """(width, height) in pixels."""
        return self.columns * self.tile_size, self.rows * self.tile_size


def tiles_allowed(pictures: int, asked: int | None) -> int:
    """The most tiles for each of a conversation's pictures; what is asked for counts only for a single one."""
    if pictures > 1:
        return SEVERAL_TILES
    return DEFAULT_TILES if asked is None else asked


def lay_out(width: int, height: int, tile_size: int, max_tiles: int) -> Layout:
    """At most `max_tiles` tiles (the reference's `hd_num`), and never enlarged beyond the next whole tile.

    Raises UnusablePicture for what the reference refuses: a strip too thin for so few tiles, or no tile at all.
    """
    long, short = max(width, height), min(width, height)
    across = min(ceil(long / tile_size), most_across(long / short, max_tiles))
    return lay_out_across(width, height, tile_size, across)


def lay_out_across(width: int, height: int, tile_size: int, across: int) -> Layout:
    """So many tiles along the picture's long side: what its layout was found to have. Raises UnusablePicture."""
    ratio = max(width, height) / min(width, height)
    # As the reference computes it, rounding included.
    scaled = int(across * tile_size / ratio)
    if not scaled:
        raise UnusablePicture(f"{width} × {height} pixels, {across} tiles long: scaled, its short side vanishes")
    return _upright(width < height, across * tile_size, scaled, tile_size)


def lay_out_frames(width: int, height: int, tile_size: int) -> Layout:
    """A composite of video frames: one tile across its short side, however many along it.

    Raises UnusablePicture for a composite without pixels.
    """
    ratio = max(width, height) / min(width, height)
    return _upright(width < height, int(tile_size * ratio), tile_size, tile_size)


def most_across(ratio: float, max_tiles: int) -> int:
    """Tiles along the long side: the last before the first number whose grid has more than `max_tiles` of them."""
    across = 0
    while (across + 1) * ceil((across + 1) / ratio) <= max_tiles:
        across += 1
    return across


def count_tokens(columns: int, rows: int, tile_side: int) -> int:
    """Tokens of a picture: the whole view and the tiled one, each row closed by a newline, a separator between.

    `tile_side` is a tile's tokens along a side.
    """
    return tile_side * (tile_side + 1) + 1 + rows * tile_side * (columns * tile_side + 1)


def pad(image: Image.Image, layout: Layout) -> Pixels:
    """An RGB picture as its layout says, (height, width, 3)."""
    upright = layout.resized if image.width >= image.height else layout.resized[::-1]
    # Resized the way it lies, so that a tall picture is to the grey level the transpose of a wide one.
    lying = image if image.width >= image.height else image.transpose(Image.Transpose.TRANSPOSE)
    pixels = np.asarray(lying.resize(upright, Image.Resampling.BILINEAR))
    pixels = pixels if image.width >= image.height else pixels.swapaxes(0, 1)
    width, height = layout.padded
    canvas = np.full((height, width, 3), _WHITE, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


def _upright(tall: bool, long: int, short: int, tile_size: int) -> Layout:
    along, across = ceil(long / tile_size), ceil(short / tile_size)
    if tall:
        return Layout((short, long), across, along, tile_size)
    return Layout((long, short), along, across, tile_size)
