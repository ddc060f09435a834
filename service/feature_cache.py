"""What the vision towers made of pictures, kept within a budget of bytes: the least recently used go first."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A tensor, as far as its size matters here."""

    @property
    def nbytes(self) -> int: ...


# What a picture takes beside its features: the rest of a page, the objects that hold them, its key.
ENTRY_BYTES = 5120

Key = TypeVar("Key")
Features = TypeVar("Features", bound=Sized)


@dataclass(frozen=True, slots=True)
class FeatureCounts:
    """Pictures found, not found and evicted since the start; the bytes taken now and at most."""

    hits: int
    misses: int
    evicted: int
    bytes: int
    budget: int


class FeatureCache(Generic[Key, Features]):
    """One thread uses it. What is larger than the whole budget is not kept."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._kept: OrderedDict[Key, Features] = OrderedDict()
        self._bytes = self._hits = self._misses = self._evicted = 0

    @property
    def counts(self) -> FeatureCounts:
        return FeatureCounts(self._hits, self._misses, self._evicted, self._bytes, self._budget)

    def get(self, key: Key) -> Features | None:
        found = self._kept.get(key)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._kept.move_to_end(key)
        return found

    def put(self, key: Key, features: Features) -> None:
        if key in self._kept or _size(features) > self._budget:
            return
        self._kept[key] = features
        self._bytes += _size(features)
        while self._bytes > self._budget:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)
            self._evicted += 1

    def clear(self) -> None:
        self._evicted += len(self._kept)
        self._kept.clear()
        self._bytes = 0


def _size(features: Sized) -> int:
    return ENTRY_BYTES + features.nbytes
