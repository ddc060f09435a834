"""The pictures of a conversation as IXC-2.5-Reward is to see them, found by their headers before any is cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.encoded import PictureRun
from models.ixc_reward.frames import canvas_size
from models.ixc_reward.layout import (
    FORMATS,
    Layout,
    UnusablePicture,
    count_tokens,
    lay_out,
    lay_out_frames,
    tiles_allowed,
)
from service.images import Image, is_readable
from service.job import JobPicture
from service.talk import NamedPicture

# A JPEG with more pictures behind its first is a format of its own to Pillow.
_FORMATS = {*FORMATS, "MPO"}


class BadImage(Exception):
    """A picture cannot be scored; the message says why."""


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """One picture, or the frames of a video, and the layout that its tokens come from."""

    files: tuple[Image, ...]
    frames: bool
    layout: Layout

    def tokens(self, tile_side: int) -> int:
        return count_tokens(self.layout.columns, self.layout.rows, tile_side)

    def placed(self, run: PictureRun) -> JobPicture:
        digests = tuple(file.id for file in self.files)
        grid = (self.layout.columns, self.layout.rows)
        return JobPicture(digests, self.frames, grid, self.layout.tiles, run.offset, run.tokens)


def see(
    pictures: Sequence[NamedPicture], files: Mapping[str, Image], tile_size: int, max_tiles: int | None
) -> list[SeenPicture]:
    """All pictures of one conversation, whose number bounds the tiles of each. Raises BadImage."""
    tiles = tiles_allowed(len(pictures), max_tiles)
    return [_see(picture, [files[name] for name in picture.references], tile_size, tiles) for picture in pictures]


def place(pictures: Sequence[SeenPicture], runs: Sequence[PictureRun]) -> tuple[JobPicture, ...]:
    """In the order in which they stand in the prompt; a prompt that was not encoded has no places."""
    placed = [picture.placed(run) for picture, run in zip(pictures, runs, strict=False)]
    return tuple(sorted(placed, key=lambda picture: picture.offset))


def _see(picture: NamedPicture, files: Sequence[Image], tile_size: int, tiles: int) -> SeenPicture:
    for file in files:
        if file.format not in _FORMATS:
            raise BadImage(f"{file.format} is not read by this model: send PNG, JPEG, GIF, BMP or WebP")
        if not is_readable(file):
            raise BadImage("a picture cannot be decoded")
    sizes = [(file.width, file.height) for file in files]
    try:
        if picture.frames:
            layout = lay_out_frames(*canvas_size(sizes, tile_size), tile_size)
        else:
            layout = lay_out(*sizes[0], tile_size, tiles)
    except UnusablePicture as error:
        raise BadImage(str(error)) from None
    return SeenPicture(tuple(files), picture.frames, layout)
