"""Spans, the neighbouring records that are read, scored and kept together; and the groups that they are sent in."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from steelyard.candidates import text_of
from steelyard.data.records import Item, Prompt, Record, Rejected
from steelyard.data.sources import RANGE

# What bounds the memory that a span takes: its records and the bytes of their texts and pictures.
_SPAN_RECORDS, _SPAN_BYTES = 256, 8 * 2**20
# What bounds one call.
_GROUP_CANDIDATES, _GROUP_BYTES = 64, 2 * 2**20


@dataclass(frozen=True, slots=True)
class Span:
    """Records from the first one on to before `end`."""

    end: int
    items: tuple[Item, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Different candidates of neighbouring records that answer the same prompt."""

    prompt: Prompt
    items: tuple[Item, ...]


def cut(records: Iterable[Record], read: Callable[[Record], list[Item] | Rejected]) -> Iterator[Span]:
    """Spans that depend only on where the first one begins; none crosses a multiple of RANGE."""
    items: list[Item] = []
    rejected: list[Rejected] = []
    count = size = end = 0
    for record in records:
        if count and (count == _SPAN_RECORDS or size > _SPAN_BYTES or record.index % RANGE == 0):
            yield Span(end, tuple(items), tuple(rejected))
            items, rejected, count, size = [], [], 0, 0
        found = read(record)
        if isinstance(found, Rejected):
            rejected.append(found)
        else:
            items += found
            size += sum(len(text_of(item.candidate)) for item in found) + (found[0].prompt.size if found else 0)
        count, end = count + 1, record.index + 1
    if count:
        yield Span(end, tuple(items), tuple(rejected))


def groups(span: Span, known: Collection[bytes]) -> Iterator[Group]:
    """What of the span is to be scored: each key once, and none that is known."""
    seen = set(known)
    together: list[Item] = []
    size = 0
    for item in span.items:
        if item.key in seen:
            continue
        seen.add(item.key)
        length = len(text_of(item.candidate))
        full = len(together) == _GROUP_CANDIDATES or size + length > _GROUP_BYTES
        if together and (full or item.prompt.key != together[0].prompt.key):
            yield Group(together[0].prompt, tuple(together))
            together, size = [], 0
        together.append(item)
        size += length
    if together:
        yield Group(together[0].prompt, tuple(together))
