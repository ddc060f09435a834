"""A table of what nobody should send to /score_steps, and the answer that fits each."""

import zlib
from collections.abc import Callable

import httpx2
import pytest

from tests.service.hostile.pictures import PICTURE, bmp, grey, png, saved
from tests.service.hostile.sending import CONTROL, MIB, body, candidate, checked, image, question

HOSTILE: dict[str, tuple[Callable[[], bytes], int]] = {
    "an empty body": (lambda: b"", 422),
    "no JSON": (lambda: b"hello", 422),
    "half a body": (lambda: body()[:-5], 422),
    "two bodies": (lambda: body() + body(), 422),
    "a byte order mark": (lambda: b"\xef\xbb\xbf" + body(), 422),
    "UTF-16": (lambda: body().decode().encode("utf-16"), 422),
    "broken UTF-8": (lambda: body().replace(b'"a"', b'"\xff\xfe\xc0"'), 422),
    "binary": (lambda: bytes(range(256)) * 100, 422),
    "null": (lambda: b"null", 422),
    "a list": (lambda: b"[1, 2]", 422),
    "a deep list": (lambda: b"[" * 1_000_000, 422),
    "deep objects": (lambda: b'{"question":' * 100_000, 422),
    "deep candidates": (lambda: body().replace(b'["a"]', b"[" * 5000 + b"]" * 5000), 422),
    "a huge integer": (lambda: body().replace(b"}", b', "deadline_ms": ' + b"9" * 4000 + b"}"), 422),
    "a million digits": (lambda: body().replace(b"}", b', "max_steps": ' + b"9" * 1_000_000 + b"}"), 422),
    "a huge exponent": (lambda: body().replace(b"}", b', "max_tiles": 1e999}'), 422),
    "NaN": (lambda: body().replace(b"}", b', "max_tiles": NaN}'), 422),
    "infinity": (lambda: body().replace(b"}", b', "deadline_ms": Infinity}'), 422),
    "NaN for a text": (lambda: body().replace(b'"q"', b"NaN"), 422),
    "a lone surrogate": (lambda: body().replace(b'"a"', b'"\\ud800"'), 422),
    "a lone low surrogate": (lambda: body().replace(b'"q"', b'"\\udc00 x"'), 422),
    "a field of surrogates": (lambda: body().replace(b'"question"', b'"\\udfff"'), 422),
    "a whole pair": (lambda: body().replace(b'"a"', b'"\\ud83d\\ude00"'), 200),
    "NUL": (lambda: candidate("a\0b\n\n\0"), 200),
    "NUL in the question": (lambda: question("\0"), 200),
    "every control character": (lambda: candidate("".join(map(chr, range(32))) + "\x7f\u2028\ufeff\uffff"), 200),
    "right-to-left and combining": (lambda: candidate("\u202e" + "e\u0301" * 500), 200),
    "unassigned and last code points": (lambda: candidate("\u0378\U0010ffff\ufdd0"), 200),
    "a field twice": (lambda: body().replace(b'"q"', b'"x", "question": "q"'), 200),
    "an unknown field of a megabyte": (lambda: body(**{"x" * MIB: 1}), 422),
    "100,000 unknown fields": (lambda: body(**{f"x{i}": 1 for i in range(100_000)}), 422),
    "a model of a megabyte": (lambda: body(model="m" * MIB), 404),
    "weights of a megabyte": (lambda: body(weights="w" * MIB), 409),
    "a picture's name of a megabyte": (lambda: body(images=["sha256:" + "f" * MIB]), 404),
    "10,000 bad candidates": (lambda: body(candidates=[1] * 10_000), 422),
    "no candidates": (lambda: body(candidates=[]), 422),
    "a candidate without steps": (lambda: body(candidates=[[]]), 422),
    "an empty candidate": (lambda: body(candidates=[""]), 200),
    "a candidate of blanks": (lambda: body(candidates=[" \n\n \n\n\n\n", ["", " "]]), 200),
    "an empty question": (lambda: question(""), 200),
    "10,000 steps": (lambda: body(candidates=[["s"] * 10_000, "fine"]), 200),
    "10,000 empty steps": (lambda: body(candidates=["\n\n" * 9_999]), 200),
    "10,001 steps": (lambda: body(candidates=[["s"] * 10_001]), 422),
    "1,025 candidates": (lambda: body(candidates=["a"] * 1025), 422),
    "1,024 empty candidates": (lambda: body(candidates=[""] * 1024), 200),
    "1,024 long candidates": (lambda: body(candidates=[f"{i} " + "x " * 20_000 for i in range(1024)]), 200),
    "a megabyte without a space": (lambda: candidate("a" * MIB), 200),
    "a megabyte of spaces": (lambda: candidate(" " * MIB), 200),
    "a megabyte of one emoji": (lambda: candidate("🙂" * (MIB // 4)), 200),
    "a megabyte of one piece": (lambda: candidate("▁" * (MIB // 3)), 200),
    "a megabyte of random letters": (lambda: candidate("qxzjkvwq" * (MIB // 8)), 200),
    "a megabyte of control text": (lambda: candidate("</s>" * (MIB // 4)), 200),
    "a megabyte for a question": (lambda: question("a" * MIB), 200),
    "a megabyte of markers": (lambda: question("<image>" * (MIB // 7)), 200),
    "a megabyte of markers for a picture": (lambda: body(question="<image>" * (MIB // 7), images=[PICTURE]), 422),
    "more markers than pictures": (lambda: body(question="<image><image>", images=[PICTURE]), 422),
    "a marker in a candidate": (lambda: body(candidates=["<image>"], images=[PICTURE]), 200),
    "65 pictures": (lambda: body(images=[PICTURE] * 65), 422),
    "64 pictures": (lambda: body(images=[PICTURE] * 64, max_tiles=1), 200),
    "invalid base64": (lambda: body(images=["@@@@"]), 422),
    "cut base64": (lambda: body(images=[PICTURE[:-3]]), 422),
    "URL-safe base64": (lambda: body(images=["-_-_"]), 422),
    "base64 in lines": (lambda: body(images=["iVBO\nRw0K"]), 422),
    "base64 that is not ASCII": (lambda: body(images=["ïVBÖ"]), 422),
    "an empty picture": (lambda: body(images=[""]), 415),
    "an empty data URL": (lambda: body(images=["data:,"]), 415),
    "a data URL without data": (lambda: body(images=["data:"]), 422),
    "a picture by http": (lambda: body(images=["HTTPS://169.254.169.254/latest"]), 422),
    "a picture by file": (lambda: body(images=["file:///etc/passwd"]), 422),
    "a nameless hash": (lambda: body(images=["sha256:"]), 404),
    "a truncated PNG": (lambda: image(saved("PNG")[:900]), 200),
    "a truncated JPEG": (lambda: image(saved("JPEG")[:900]), 200),
    "a truncated GIF": (lambda: image(saved("GIF")[:2000]), 200),
    "a PNG without pixels": (lambda: image(png(20, 20)), 200),
    "a PNG with broken pixels": (lambda: image(png(20, 20, (b"IDAT", b"not zlib"))), 200),
    "a PNG with a text bomb": (
        lambda: image(png(9, 9, (b"zTXt", b"k\0\0" + zlib.compress(bytes(80 * MIB), 9)), (b"IDAT", b""))),
        415,
    ),
    "a decompression bomb": (lambda: image(png(30_000, 30_000, (b"IDAT", zlib.compress(bytes(MIB), 9)))), 413),
    "a picture of the largest size": (lambda: image(png(2**31 - 1, 2**31 - 1)), 413),
    "a picture of 49 megapixels": (lambda: image(grey(7000, 7000)), 200),
    "1 × 1": (lambda: image(grey(1, 1)), 200),
    "1 × 10,000": (lambda: image(grey(1, 10_000)), 200),
    "10,000 × 1": (lambda: image(grey(10_000, 1)), 200),
    "0 × 0": (lambda: image(png(0, 0)), 415),
    "0 × 10": (lambda: image(png(0, 10)), 415),
    "a BMP without pixels": (
        lambda: image(bmp(0, 0)),
        415,
    ),
    **{f"{text!r} in a candidate": (lambda text=text: candidate(f"a {text} b"), 200) for text in CONTROL},  # type: ignore[misc]
    **{f"{text!r} in the question": (lambda text=text: question(f"a {text} b"), 200) for text in CONTROL},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_gets_the_answer_that_fits_it(api: httpx2.Client, name: str) -> None:
    make, status = HOSTILE[name]
    response = checked(api.post("/score_steps", content=make()))
    assert response.status_code == status, response.text[:300]
