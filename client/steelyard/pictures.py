"""Pictures in every form in which a caller has them, and what becomes of them on the wire."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import unquote_to_bytes

from steelyard.errors import InvalidPicture
from steelyard.schema import StoredImage

_FORMS = "a path, bytes, a PIL image, a uint8 array, a data: URL, a sha256: id or a StoredImage"
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_UINT8 = "|u1"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})
# What the server itself would turn into RGB.
_TO_RGB = frozenset({"CMYK", "YCbCr", "LAB", "HSV", "RGBX"})
_LONGEST_QUOTE = 80


@runtime_checkable
class Pixels(Protocol):
    """A NumPy array or a PIL image."""

    @property
    def __array_interface__(self) -> Mapping[str, object]: ...


class PILImage(Protocol):
    """The little of `PIL.Image.Image` that is used here, so that PIL is not imported."""

    mode: str

    def convert(self, mode: str) -> "PILImage": ...
    def save(self, file: io.BytesIO, /, form: str, *, compress_level: int) -> None: ...


PictureLike: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels | StoredImage | Picture"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's bytes under their hash, the id by which the server keeps them."""

    id: str
    content: bytes = field(repr=False)


def picture_of(content: bytes) -> Picture:
    if not content:
        raise InvalidPicture("the picture is empty: it has no bytes")
    return Picture("sha256:" + hashlib.sha256(content).hexdigest(), content)


class Album:
    """The pictures of one call: each source is read, encoded and hashed once."""

    def __init__(self) -> None:
        self.pictures: dict[str, Picture] = {}
        # By identity; the source is kept, so that its identity is not given to another.
        self._references: dict[object, tuple[PictureLike, str]] = {}

    def refer(self, source: PictureLike) -> str:
        """The id under which the call names it. Raises InvalidPicture."""
        key = source if isinstance(source, str | os.PathLike) else id(source)
        if key not in self._references:
            self._references[key] = (source, self._add(source))
        return self._references[key][1]

    def refer_all(self, sources: Sequence[PictureLike]) -> list[str]:
        """Raises InvalidPicture, also for a single picture, whose items would be taken for pictures."""
        check_list(sources)
        return [self.refer(source) for source in sources]

    def _add(self, source: PictureLike) -> str:
        loaded = load(source)
        if isinstance(loaded, str):
            return loaded
        self.pictures.setdefault(loaded.id, loaded)
        return loaded.id


def check_list(sources: object) -> None:
    """Raises InvalidPicture for anything but a list or a tuple."""
    if not isinstance(sources, list | tuple):
        raise InvalidPicture(f"images: a list of pictures, not {_described(sources)}; one picture is [picture]")


def is_loaded(source: object) -> bool:
    """Whether nothing has to be read, encoded or hashed before it can be referred to."""
    return isinstance(source, Picture | StoredImage) or (isinstance(source, str) and source.startswith("sha256:"))


def load(source: PictureLike) -> Picture | str:
    """The picture, or the id of one that the server has. Raises InvalidPicture."""
    if isinstance(source, StoredImage):
        return source.id
    if isinstance(source, Picture):
        return source
    if isinstance(source, str):
        return _from_text(source)
    return picture_of(_content(source))


def _from_text(text: str) -> Picture | str:
    scheme = text[:8].lower()
    if scheme.startswith("sha256:"):
        if not _ID.fullmatch(text):
            raise InvalidPicture(f"{_quoted(text)}: an id is `sha256:` and 64 lower-case hex digits")
        return text
    if scheme.startswith("data:"):
        return picture_of(_from_data_url(text))
    if scheme.startswith(("http://", "https://")):
        raise InvalidPicture(f"{_quoted(text)}: no URL is fetched; give {_FORMS}")
    return picture_of(_read(Path(text)))


def _content(source: object) -> bytes:
    if isinstance(source, os.PathLike):
        return _read(Path(os.fspath(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "save") and hasattr(source, "mode"):
        return _png(cast(PILImage, source))
    if isinstance(source, Pixels):
        return _png(_image_of(source))
    raise InvalidPicture(f"{_described(source)} is no picture; give {_FORMS}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidPicture(f"{_quoted(str(path))}: there is no such file; give {_FORMS}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidPicture(f"{_quoted(str(path))}: {reason}; give {_FORMS}") from None


def _from_data_url(url: str) -> bytes:
    head, comma, encoded = url.partition(",")
    if not comma:
        raise InvalidPicture("a data URL has a comma between its media type and its data")
    base64_follows = head.lower().endswith(";base64")
    try:
        return base64.b64decode(encoded, validate=True) if base64_follows else unquote_to_bytes(encoded)
    except ValueError:
        raise InvalidPicture(f"{_quoted(url)}: what follows the comma cannot be decoded") from None


def _image_of(array: Pixels) -> PILImage:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, as PIL sees it."""
    kind = array.__array_interface__["typestr"]
    shape = cast(tuple[int, ...], array.__array_interface__["shape"])
    channels = shape[2] if len(shape) == 3 else 1
    if kind != _UINT8 or len(shape) not in (2, 3) or channels not in _MODES or 0 in shape:
        raise InvalidPicture(
            f"an array of shape {shape} and type {kind}: a picture is uint8 (|u1) of shape (height, width), or "
            "(height, width, channels) with 1, 3 or 4 channels"
        )
    try:
        from PIL import Image
    except ImportError:
        raise InvalidPicture("an array needs Pillow to become a file: pip install 'steelyard[pictures]'") from None
    content = memoryview(cast(bytes, array)).tobytes()
    return cast(PILImage, Image.frombytes(_MODES[channels], (shape[1], shape[0]), content))


def _png(image: PILImage) -> bytes:
    """Lossless, and quick rather than small: it goes to a server nearby."""
    if image.mode not in _IN_PNG | _TO_RGB:
        raise InvalidPicture(f"a PIL image of mode {image.mode}: convert it to RGB first")
    file = io.BytesIO()
    try:
        (image if image.mode in _IN_PNG else image.convert("RGB")).save(file, "PNG", compress_level=1)
    except (OSError, ValueError, SyntaxError) as error:
        # One that was opened from a file is only decoded now.
        raise InvalidPicture(f"a PIL image that cannot be encoded: {error}") from None
    return file.getvalue()


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…")


def _described(source: object) -> str:
    name = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    return f"{_quoted(source)} (str)" if isinstance(source, str) else name
