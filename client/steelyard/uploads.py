"""Which pictures the server has been sent, so that their bytes travel once."""

from collections import OrderedDict
from itertools import count
from threading import Lock

_MOST_REMEMBERED = 16_384


class Uploads:
    """The last upload of each picture, by a number that only grows; 0 is never. Safe to use from several threads."""

    def __init__(self, most_remembered: int = _MOST_REMEMBERED) -> None:
        self._most_remembered = most_remembered
        self._numbers = count(1)
        self._last: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def last(self, image_id: str) -> int:
        with self._lock:
            if image_id not in self._last:
                return 0
            self._last.move_to_end(image_id)
            return self._last[image_id]

    def record(self, image_id: str) -> None:
        with self._lock:
            self._last[image_id] = next(self._numbers)
            self._last.move_to_end(image_id)
            if len(self._last) > self._most_remembered:
                self._last.popitem(last=False)
