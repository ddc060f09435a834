"""Percentiles of the recorder against the exact ones."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.latencies import Latencies

PERCENTS = (0, 1, 50, 90, 99, 99.9, 100)


def recorded(seconds: npt.NDArray[np.float64]) -> Latencies:
    latencies = Latencies()
    for value in seconds:
        latencies.record(float(value))
    return latencies


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_numpys_to_a_thousandth(seed: int) -> None:
    # No rank is whole with so many: at a whole one, numpy's own rounding decides which neighbour it means.
    seconds = np.random.default_rng(seed).lognormal(-4, 2, 20_011)
    latencies = recorded(seconds)
    for percent in PERCENTS:
        exact = float(np.percentile(seconds, percent, method="inverted_cdf"))
        # A microsecond is the unit of the smallest bucket.
        assert latencies.percentile(percent) == pytest.approx(exact, rel=1e-3, abs=1e-6)


def test_merged_parts_are_the_whole() -> None:
    seconds = np.random.default_rng(5).exponential(0.1, 3_000)
    whole, merged = recorded(seconds), recorded(seconds[:1_000])
    merged.merge(recorded(seconds[1_000:]))
    assert merged == whole


def test_the_longest_is_kept_exactly() -> None:
    latencies = recorded(np.array([0.1, 7.654321987, 0.2]))
    assert latencies.longest_s == 7.654321987
    assert latencies.percentile(100) <= latencies.longest_s


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    latencies = recorded(np.geomspace(1e-6, 200_000, 100_000))
    assert latencies.count == 100_000
    assert len(latencies.buckets) < 30_000


def test_nothing_recorded_is_no_number() -> None:
    assert math.isnan(Latencies().percentile(99))
