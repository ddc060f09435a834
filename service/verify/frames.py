"""What crosses the pipe between the gateway and a worker, and what a worker made of one item."""

from collections.abc import Mapping

import msgspec

# Before every frame, big-endian.
LENGTH_BYTES = 4

# Name → what the served model of that name gave the response.
Served = Mapping[str, float]


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One text to weigh. `place` is its index in the caller's batch, `id` the caller's own."""

    place: int
    id: str | None
    response: str
    truth: str | None
    served: dict[str, float] | None

    @property
    def characters(self) -> int:
        """How much there is to read."""
        return len(self.response) + len(self.truth or "")


class Turn(msgspec.Struct, array_like=True, frozen=True):
    """Items of one batch to evaluate one after the other; each may take `limit_s`.

    After `quantum_s` no further item is begun, so that the batches of others get their turn.
    """

    specification: bytes
    limit_s: float
    quantum_s: float
    items: list[Item]


class Result(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An evaluated item; `line` is its result as JSON, as the caller reads it."""

    place: int
    status: str
    line: bytes


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What came of a turn: results of the items that were begun, in their order.

    `exhausted` is the place of the item for which the memory was too small; `tired` says that the worker has grown so
    much that another one should take over.
    """

    results: list[Result]
    exhausted: int | None = None
    tired: bool = False


class Verified(msgspec.Struct, frozen=True):
    """One item's result on the wire: `steelyard.verify_schema.VerifiedItem`."""

    index: int
    id: str | None
    status: str
    reward: float | None = None
    parts: Mapping[str, float] = {}
    retryable: bool | None = None
    detail: str | None = None


_LINES = msgspec.json.Encoder()


def result_of(verified: Verified) -> Result:
    return Result(verified.index, verified.status, _LINES.encode(verified))


def unverified(item: Item, status: str, detail: str, *, retryable: bool = False) -> Result:
    """A result without a number."""
    return result_of(Verified(item.place, item.id, status, retryable=retryable, detail=detail))


def pack(frame: Turn | Answer) -> bytes:
    body = msgspec.msgpack.encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
