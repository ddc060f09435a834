"""Files that are no pictures, or are more than they seem."""

import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest

from steelyard.schema import StoredImage
from tests.service.hostile.pictures import encoded, png, saved
from tests.service.hostile.sending import MIB, PATIENCE_S, body, checked, image
from tests.service.running import Running, until


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, saved("PNG")[:10], png(0, 0), b"GIF89a", b"II*\0\xff\xff\xff\xff"]
)
def test_what_is_no_picture_is_not_stored(api: httpx2.Client, content: bytes) -> None:
    assert checked(api.put("/images", content=content)).status_code == 415


def test_a_bomb_is_refused_by_its_header_alone(api: httpx2.Client) -> None:
    bomb = png(30_000, 30_000, (b"IDAT", zlib.compress(bytes(30_001 * 1000), 9)))
    response = checked(api.put("/images", content=bomb))
    assert response.status_code == 413
    assert response.elapsed.total_seconds() < 1


def test_a_picture_with_any_byte_changed_is_answered_by_the_schema(api: httpx2.Client) -> None:
    content = bytearray(saved("PNG", 8, 8))
    for place in range(0, len(content), 7):
        changed = bytes(content[:place]) + bytes([content[place] ^ 0xFF]) + bytes(content[place + 1 :])
        stored = api.put("/images", content=changed)
        assert stored.status_code in (200, 413, 415)
        if stored.status_code == 200:
            StoredImage.model_validate_json(stored.content)
            assert checked(api.post("/score_steps", content=image(changed))).status_code == 200


def test_the_memory_of_large_pictures_returns(server: Running, api: httpx2.Client) -> None:
    """Decoded by several threads at once, each of whose heaps could keep what it took."""
    pixels = (b"IDAT", zlib.compress(bytes(5001 * 5000), 9))
    bodies = [
        body(images=[encoded(png(5000, 5000, (b"tEXt", b"k\0%d" % index), pixels))], priority=priority, max_tiles=1)
        for index, priority in enumerate(["online", "train"] * 4)
    ]
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with httpx2.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda content: client.post("/score_steps", content=content), bodies))
    assert {checked(answer).status_code for answer in answers} == {200}
    until(lambda: process.memory_info().rss - before < 30 * MIB, "the memory", PATIENCE_S)
