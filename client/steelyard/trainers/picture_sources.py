"""Which pictures of a batch are the same one, however often a data set has decoded them."""

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from steelyard.errors import InvalidPicture
from steelyard.pictures import Picture, PictureLike, Pixels, picture_of
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
    """One object for all pictures of equal contents; each object is looked at once. For one batch."""

    def __init__(self) -> None:
        # By identity; the picture is kept, so that its identity is not given to another.
        self._seen: dict[int, tuple[PictureLike, Hashable]] = {}
        self._firsts: dict[Hashable, PictureLike] = {}

    def keys(self, pictures: Sequence[PictureLike]) -> tuple[Hashable, ...]:
        """Equal when the contents are."""
        return tuple(self._key(picture) for picture in pictures)

    def firsts(self, keys: Sequence[Hashable]) -> tuple[PictureLike, ...]:
        """What to send for pictures of these keys: bytes have been hashed, and are not again."""
        return tuple(self._firsts[key] for key in keys)

    def _key(self, picture: PictureLike) -> Hashable:
        found = self._seen.get(id(picture))
        if found is None:
            loaded = _loaded(picture)
            found = self._seen[id(picture)] = (picture, _key(loaded))
            self._firsts.setdefault(found[1], loaded)
        return found[1]


def _loaded(picture: PictureLike) -> PictureLike:
    """Nothing at all is left for the client to refuse."""
    return picture_of(bytes(picture)) if isinstance(picture, bytes | bytearray | memoryview) and picture else picture


def _key(picture: PictureLike) -> Hashable:
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    if isinstance(picture, StoredImage | Picture):
        return picture.id
    try:
        return _pixels_key(cast(Pixels, picture))
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
