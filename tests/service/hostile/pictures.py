"""Pictures made by hand, whole and broken."""

import base64
import io
import struct
import zlib

from PIL import Image


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG made by hand, so that its header may promise anything."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in body
    )


def grey(width: int, height: int) -> bytes:
    """A whole grey PNG: a million pixels weigh a kilobyte."""
    return png(width, height, (b"IDAT", zlib.compress(bytes((width + 1) * height), 9)))


def saved(form: str, width: int = 64, height: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(file, form)
    return file.getvalue()


def bmp(width: int, height: int, offset: int = 54) -> bytes:
    """A BMP without pixels, which would begin at `offset`."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, offset, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def mpo() -> bytes:
    """A JPEG with two more behind it."""
    file = io.BytesIO()
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    picture.save(file, "MPO", save_all=True, append_images=[picture, picture])
    return file.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


PICTURE = encoded(saved("PNG"))
