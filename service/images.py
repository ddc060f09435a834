"""The pictures that callers have sent, kept under the hash of their bytes for a while."""

import binascii
import hashlib
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote_to_bytes

import pybase64

from models.tiling import Header, NotAPicture, UnreadablePicture, open_rgb, read_header
from models.tiling import TooManyPixels as _TooManyPixels
from service.errors import ImageTooLarge, InvalidRequest, TooManyPixels, UnknownImage, UnsupportedImage

_MOST_ESCAPES = 200_000


class Shared(Protocol):
    """Pictures that other gateways have stored, by their ids."""

    def find(self, image_id: str) -> bytes | None: ...
    def keep(self, image_id: str, content: bytes) -> None: ...


@dataclass(slots=True)
class Image:
    """A picture as it was sent; `readable` is None until its pixels have been decoded once."""

    id: str
    content: bytes
    format: str
    width: int
    height: int
    used: float
    readable: bool | None = None
    decoding: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)


class ImageStore:
    """Least recently used pictures go first when the bytes run over the budget, and any unused for `ttl_s`.

    Safe to use from several threads.
    """

    def __init__(
        self,
        *,
        budget_bytes: int,
        ttl_s: float,
        max_image_bytes: int,
        max_pixels: int,
        max_call_pixels: int = sys.maxsize,
    ) -> None:
        self._budget_bytes = budget_bytes
        self._ttl_s = ttl_s
        self._max_image_bytes = max_image_bytes
        self._max_pixels = max_pixels
        self._max_call_pixels = max_call_pixels
        self._lock = threading.Lock()
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._shared: Shared | None = None
        self.bytes = 0

    def share(self, shared: "Shared") -> None:
        """Look there for what is not here, and let `publish` store there too."""
        self._shared = shared

    def publish(self, content: bytes) -> Image:
        """`put`, for the other gateways too."""
        image = self.put(content)
        if self._shared is not None:
            self._shared.keep(image.id, image.content)
        return image

    def put(self, content: bytes) -> Image:
        """Check a picture's header and keep it. Raises ImageTooLarge, TooManyPixels, UnsupportedImage."""
        if len(content) > self._max_image_bytes:
            raise ImageTooLarge(f"the picture has {len(content)} bytes; the limit is {self._max_image_bytes}")
        image_id = "sha256:" + hashlib.sha256(content).hexdigest()
        known = self._find(image_id)
        if known is not None:
            return known
        header = self._header(content)
        image = Image(image_id, content, header.format, header.width, header.height, used=time.monotonic())
        with self._lock:
            # Another thread may have put the same bytes meanwhile.
            kept = self._images.setdefault(image_id, image)
            if kept is image:
                self.bytes += len(content)
            self._evict()
        return kept

    def resolve(self, references: Iterable[str]) -> dict[str, Image]:
        """The pictures that a call names or carries, by how it does.

        Raises UnknownImage with every id that is not stored, InvalidRequest for what is neither id, data URL
        nor base64, TooManyPixels for what is too much in all, and what `put` raises.
        """
        found = {reference: self._find_anywhere(reference) if _is_id(reference) else None for reference in references}
        missing = [reference for reference, image in found.items() if image is None and _is_id(reference)]
        if missing:
            raise UnknownImage(f"not stored here (any more): {', '.join(missing)}; send them again with PUT /images")
        resolved = {reference: image or self.put(_decode(reference)) for reference, image in found.items()}
        self.check_pixels((image,) for image in resolved.values())
        return resolved

    def intern(self, references: Iterable[str]) -> dict[str, str]:
        """The id of each picture that a call carries itself, so that several models decode and hash its text once.

        Empty when the store is too small to hold them all. Raises what `put` raises, InvalidRequest and TooManyPixels.
        """
        inline = {reference for reference in references if not _is_id(reference)}
        ids = {reference: image.id for reference, image in self.resolve(inline).items()}
        return ids if all(self._find(image_id) for image_id in ids.values()) else {}

    def check_pixels(self, pictures: Iterable[Sequence[Image]]) -> None:
        """Of all a call's pictures, each different one is decoded once: a file, or the frames of a video.

        Raises TooManyPixels.
        """
        different = {tuple(file.id for file in files): files for files in pictures}
        pixels = sum(file.width * file.height for files in different.values() for file in files)
        if pixels > self._max_call_pixels:
            limit = self._max_call_pixels
            raise TooManyPixels(f"the pictures of this call have {pixels} pixels in all; the limit is {limit}")

    def _find_anywhere(self, image_id: str) -> Image | None:
        image = self._find(image_id)
        if image is None and self._shared is not None:
            content = self._shared.find(image_id)
            image = None if content is None else self.put(content)
        return image

    def _find(self, image_id: str) -> Image | None:
        with self._lock:
            self._evict()
            image = self._images.get(image_id)
            if image is not None:
                image.used = time.monotonic()
                self._images.move_to_end(image_id)
            return image

    def _evict(self) -> None:
        oldest_use = time.monotonic() - self._ttl_s
        while self._images:
            image = next(iter(self._images.values()))
            if self.bytes <= self._budget_bytes and image.used >= oldest_use:
                return
            del self._images[image.id]
            self.bytes -= len(image.content)

    def _header(self, content: bytes) -> Header:
        try:
            return read_header(content, self._max_pixels)
        except NotAPicture:
            raise UnsupportedImage("not a picture that this server reads: PNG, JPEG, GIF, BMP, WebP or TIFF") from None
        except _TooManyPixels as error:
            size = f"{error.width} × {error.height}"
            raise TooManyPixels(f"the picture has {size} pixels; the limit is {self._max_pixels}") from None


def is_readable(image: Image) -> bool:
    """Whether the pixels can be decoded: tried once for each stored picture, however many models see it at a time."""
    with image.decoding:
        if image.readable is None:
            try:
                open_rgb(image.content)
                image.readable = True
            except UnreadablePicture:
                image.readable = False
        return image.readable


def _is_id(reference: str) -> bool:
    return reference.startswith("sha256:")


def _unquote(encoded: str) -> bytes:
    """What percent signs spell out; millions of them would hold the interpreter for tens of seconds."""
    if encoded.count("%") > _MOST_ESCAPES:
        raise ImageTooLarge(f"a data URL of more than {_MOST_ESCAPES} escaped bytes: send it as base64")
    return unquote_to_bytes(encoded)


def _decode(reference: str) -> bytes:
    if reference[:8].lower().startswith(("http://", "https://")):
        raise InvalidRequest("images: remote URLs are off on this server; send the bytes with PUT /images")
    encoded = reference
    if reference[:5].lower() == "data:":
        head, comma, encoded = reference.partition(",")
        if not comma:
            raise InvalidRequest("images: a data URL has a comma between its media type and its data")
        if not head.lower().endswith(";base64"):
            return _unquote(encoded)
    try:
        return pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("images: neither a `sha256:` id, nor a data URL, nor base64") from None
