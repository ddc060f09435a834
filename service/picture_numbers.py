"""The numbers by which a model's prefix cache tells pictures apart."""

import itertools
from collections import OrderedDict

from service.job import PictureKey


class PictureNumbers:
    """A number for every picture, never given to another one.

    One is forgotten when those asked for since have as many rows as a prefix cache has slots, which can hold nothing of
    it any more. Should it come back, it gets a new number and is computed again.
    """

    def __init__(self, slots: int) -> None:
        self._slots, self._rows = slots, 0
        self._known: OrderedDict[PictureKey, tuple[int, int]] = OrderedDict()
        self._next = itertools.count()

    def of(self, key: PictureKey, rows: int) -> int:
        """The number of a picture that has so many rows in a prompt."""
        if key not in self._known:
            self._known[key] = next(self._next), rows
            self._rows += rows
        self._known.move_to_end(key)
        number, _ = self._known[key]
        while self._known and self._rows - self._oldest_rows() >= self._slots:
            self._rows -= self._oldest_rows()
            self._known.popitem(last=False)
        return number

    def _oldest_rows(self) -> int:
        _, rows = next(iter(self._known.values()))
        return rows
