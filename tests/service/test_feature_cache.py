"""The vision cache: alone, and in the engine's hands."""

import dataclasses
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from service.engine import Features
from service.feature_cache import ENTRY_BYTES, FeatureCache, FeatureCounts
from service.job import JobPicture
from tests.service.scripted import OTHER, PICTURE, Halver, Script, arrive, job, run

# The scripted scorer's features of a picture, as they are counted.
BYTES = 16 + ENTRY_BYTES
A, B = PICTURE.digests[0], OTHER.digests[0]
BLOBS = {A: b"one", B: b"two"}


def features(size: int) -> npt.NDArray[np.uint8]:
    """Counted as so many times what an entry takes beside its features."""
    return np.zeros((size - 1) * ENTRY_BYTES, np.uint8)


def filled(budget: int, *sizes: tuple[str, int]) -> FeatureCache[str, npt.NDArray[np.uint8]]:
    cache: FeatureCache[str, npt.NDArray[np.uint8]] = FeatureCache(budget * ENTRY_BYTES)
    for key, size in sizes:
        cache.put(key, features(size))
    return cache


def size_of(cache: FeatureCache[str, npt.NDArray[np.uint8]]) -> float:
    return cache.counts.bytes / ENTRY_BYTES


def test_what_was_put_is_found_and_counted() -> None:
    cache = filled(10, ("a", 4))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.counts == FeatureCounts(hits=1, misses=1, evicted=0, bytes=4 * ENTRY_BYTES, budget=10 * ENTRY_BYTES)


def test_the_least_recently_used_goes_first() -> None:
    cache = filled(10, ("a", 4), ("b", 4))
    cache.get("a")
    cache.put("c", features(4))
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    assert size_of(cache) == 8


def test_as_many_go_as_have_to() -> None:
    cache = filled(10, ("a", 3), ("b", 3), ("c", 3), ("d", 9))
    assert [cache.get(key) is not None for key in "abcd"] == [False, False, False, True]
    assert (cache.counts.evicted, size_of(cache)) == (3, 9)


def test_what_is_larger_than_the_budget_is_not_kept_and_displaces_nothing() -> None:
    cache = filled(10, ("a", 4), ("b", 11))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.counts.evicted == 0


def test_a_budget_may_be_filled_to_the_last_byte() -> None:
    assert size_of(filled(10, ("a", 5), ("b", 5))) == 10


def test_many_small_ones_are_counted_with_what_they_take_beside_their_features() -> None:
    cache = filled(10)
    for name in range(100):
        cache.put(str(name), np.zeros(1, np.uint8))
    assert (cache.counts.bytes, cache.counts.evicted) == (9 * (ENTRY_BYTES + 1), 91)


def test_what_is_kept_is_not_counted_twice() -> None:
    assert size_of(filled(10, ("a", 4), ("a", 4))) == 4


def test_a_cleared_cache_is_empty_and_works() -> None:
    cache = filled(10, ("a", 4), ("b", 4))
    cache.clear()
    assert (cache.counts.bytes, cache.counts.evicted, cache.get("a")) == (0, 2, None)
    cache.put("a", features(10))
    assert size_of(cache) == 10


def test_a_picture_of_a_later_batch_is_not_encoded_again() -> None:
    scorer = Halver()
    script = run(Script(*(arrive(job(name, 1, pictures=(PICTURE,))) for name in "abc"), between=True), scorer)
    assert scorer.encoded == [A]
    assert [delivery.tiles for delivery in script.delivered] == [1, 0, 0]
    assert (script.counts.features.hits, script.counts.features.misses) == (2, 1)


def test_under_a_budget_of_one_picture_each_displaces_the_other_and_all_are_scored() -> None:
    scorer = Halver()
    shown = [PICTURE, OTHER, OTHER, PICTURE]
    groups = [arrive(job(str(i), 1, pictures=(picture,))) for i, picture in enumerate(shown)]
    script = run(Script(*groups, blobs=BLOBS, between=True), scorer, feature_bytes=BYTES)
    assert scorer.encoded == [A, B, A]
    assert [delivery.tiles for delivery in script.delivered] == [1, 1, 0, 1]
    assert script.counts.features == FeatureCounts(hits=1, misses=3, evicted=2, bytes=BYTES, budget=BYTES)


@pytest.mark.parametrize("budget", [0, BYTES - 1])
def test_without_room_for_it_a_picture_is_encoded_once_a_batch(budget: int) -> None:
    scorer = Halver()
    together = arrive(job("a", 1, 2, pictures=(PICTURE,)), job("b", 3, pictures=(PICTURE,)))
    later = arrive(job("c", 4, pictures=(PICTURE,)))
    script = run(Script(together, later, between=True), scorer, feature_bytes=budget)
    assert scorer.encoded == [A, A]
    assert [(d.job, d.tiles) for d in script.delivered] == [("a", 1), ("b", 0), ("c", 1)]
    assert script.counts.features.bytes == 0


def test_the_halves_of_a_batch_that_failed_share_its_pictures_even_without_a_cache() -> None:
    scorer = Halver(13)
    script = run(Script(arrive(job("a", 1, 2, 13, 4, pictures=(PICTURE,)))), scorer, feature_bytes=0)
    assert scorer.encoded == [A]
    assert script.statuses("a") == ["ok", "ok", "failed", "ok"]
    assert sum(delivery.tiles for delivery in script.delivered) == 1


def test_another_cut_of_a_picture_is_another_picture() -> None:
    wide = dataclasses.replace(PICTURE, grid=(2, 1), tiles=2)
    scorer = Halver()
    run(Script(arrive(job("a", 1, pictures=(PICTURE,))), arrive(job("b", 2, pictures=(wide,)))), scorer)
    assert scorer.encoded == [A, A]


def test_a_broken_picture_is_not_kept() -> None:
    class Mending(Halver):
        def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
            encoded = yield from super().encode(picture, contents)
            if len(self.encoded) == 1:
                raise ValueError("broken once")
            return encoded

    script = run(Script(*(arrive(job(name, 1, pictures=(PICTURE,))) for name in "ab"), between=True), Mending())
    assert script.statuses("a") + script.statuses("b") == ["failed", "ok"]
