"""Which pictures of a batch are the same one, however often a data set has decoded them."""

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from steelyard.errors import InvalidPicture
from steelyard.pictures import Picture, PictureLike, Pixels
from steelyard.schema import StoredImage
from steelyard.trainers.samples import PictureSource


def listed(column: object) -> list[PictureSource]:
    """The pictures of one row: None is none, and a picture by itself is a list of one."""
    if column is None:
        return []
    if isinstance(column, list | tuple):
        return [cast(PictureSource, picture) for picture in column if picture is not None]
    return [cast(PictureSource, column)]


def source_of(picture: PictureSource) -> PictureLike:
    """A picture in a form that the client takes. Raises InvalidPicture for a mapping that holds none."""
    if not isinstance(picture, Mapping):
        return picture
    content, path = picture.get("bytes"), picture.get("path")
    if isinstance(content, bytes | bytearray | memoryview):
        return content
    if isinstance(path, str) and path:
        return path
    raise InvalidPicture(f"a picture given as a mapping has `bytes` or a `path`, not {sorted(map(str, picture))}")


class Likeness:
    """Keys of pictures, equal when their contents are; each object is looked at once. For one batch."""

    def __init__(self) -> None:
        # By identity; the picture is kept, so that its identity is not given to another.
        self._seen: dict[int, tuple[PictureLike, Hashable]] = {}

    def keys(self, pictures: Sequence[PictureLike]) -> tuple[Hashable, ...]:
        return tuple(self._key(picture) for picture in pictures)

    def _key(self, picture: PictureLike) -> Hashable:
        found = self._seen.get(id(picture))
        if found is None:
            found = self._seen[id(picture)] = (picture, _key(picture))
        return found[1]


def _key(picture: PictureLike) -> Hashable:
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    if isinstance(picture, StoredImage | Picture):
        return picture.id
    if isinstance(picture, bytes | bytearray | memoryview):
        return hashlib.sha256(picture).digest()
    try:
        return _pixels_key(picture)
    except (AttributeError, OSError, SyntaxError, TypeError, ValueError):
        # No picture, or one that cannot be decoded: the client says so when it is to be sent.
        return id(picture)


def _pixels_key(picture: Pixels) -> Hashable:
    """A PIL image is not encoded to tell: a batch holds each many times, and encoding is the slow part."""
    if hasattr(picture, "save") and hasattr(picture, "mode"):
        image = cast(Any, picture)
        palette = tuple(image.getpalette() or ()) if image.mode == "P" else ()
        transparency = image.info.get("transparency")
        return image.mode, image.size, palette, transparency, hashlib.sha256(image.tobytes()).digest()
    described = picture.__array_interface__
    content = memoryview(cast(bytes, picture)).tobytes()
    return described["typestr"], described["shape"], hashlib.sha256(content).digest()
