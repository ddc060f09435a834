"""Texts that were tokenised a while ago, within a byte budget that every tokenizer shares. Torch-free."""

import sys
import threading
from collections import OrderedDict

# Plain tuples, which the garbage collector soon stops looking at: there may be a hundred thousand.
# All that a text's ids depend on: its tokenizer, the text, whether it is literal, the stretches that users wrote.
TextKey = tuple[object, str, bool, tuple[tuple[int, int], ...]]
# Ids as int32 bytes, which nobody can change, and the control text found.
KnownText = tuple[bytes, tuple[str, ...]]

# What an entry takes beside its text, ids and control text, right after the dict has grown.
_ENTRY_BYTES, _STRETCH_BYTES = 400, 128
_LARGEST_SHARE = 8


class TokenCache:
    """Texts asked for least recently go first when the bytes would run over the budget.

    A text that would take more than an eighth of the budget is not kept. Safe to use from several threads.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._largest = budget_bytes // _LARGEST_SHARE
        self._lock = threading.Lock()
        self._entries: OrderedDict[TextKey, tuple[int, KnownText]] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def get(self, key: TextKey) -> KnownText | None:
        """What was put under this very key, unless it is gone."""
        # A text that is too large to be here is not even hashed.
        can_be_here = len(key[1]) <= self._largest
        with self._lock:
            entry = self._entries.get(key) if can_be_here else None
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[1]

    def put(self, key: TextKey, known: KnownText) -> None:
        """Keep it, and drop what it displaces."""
        size = _size(key, known)
        if size > self._largest:
            return
        with self._lock:
            # Another thread may have put the same text meanwhile.
            if key in self._entries:
                return
            while self.bytes + size > self._budget_bytes:
                _, (freed, _) = self._entries.popitem(last=False)
                self.bytes -= freed
                self.evictions += 1
            self._entries[key] = size, known
            self.bytes += size


def _size(key: TextKey, known: KnownText) -> int:
    """Bytes; what is shared with others is counted here as well."""
    _, text, _, users = key
    ids, control = known
    own = sys.getsizeof(text) + sys.getsizeof(ids) + _STRETCH_BYTES * len(users)
    return _ENTRY_BYTES + own + sys.getsizeof(control) + sum(map(sys.getsizeof, control))
