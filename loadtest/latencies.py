"""Latencies in buckets that grow with what they hold: percentiles to 0.1 %, whatever the number of requests."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, nan
from typing import Self

# So many bits of a value are kept: a bucket is less than a thousandth of its values wide.
_BITS = 10
_LONGEST_US = 86_400_000_000
_US = 1_000_000


@dataclass(slots=True)
class Latencies:
    """Seconds, each counted in its bucket of microseconds; at most about 30,000 buckets up to a day."""

    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    longest_s: float = 0.0

    def record(self, seconds: float) -> None:
        self.buckets[_bucket(min(int(seconds * _US), _LONGEST_US))] += 1
        self.count += 1
        self.longest_s = max(self.longest_s, seconds)

    def percentile(self, percent: float) -> float:
        """Seconds that `percent` of all took at most (nearest rank); NaN when there are none."""
        rank, seen = max(1, ceil(self.count * percent / 100)), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return min(_middle_us(bucket) / _US, self.longest_s)
        return nan

    def merge(self, other: Self) -> None:
        self.buckets.update(other.buckets)
        self.count += other.count
        self.longest_s = max(self.longest_s, other.longest_s)


def _bucket(us: int) -> int:
    shift = max(0, us.bit_length() - _BITS - 1)
    return (shift << _BITS) + (us >> shift)


def _middle_us(bucket: int) -> float:
    shift = max(0, (bucket >> _BITS) - 1)
    return ((bucket - (shift << _BITS)) << shift) + ((1 << shift) - 1) / 2
