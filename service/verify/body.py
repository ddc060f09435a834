"""The body of `POST /verify`, read fast; a mistake is found once more by the schema, which names the field."""

from typing import Annotated

import msgspec
from msgspec import Meta

from service.body import check_weight, parse_bytes
from service.errors import InvalidRequest
from steelyard.schema import MOST_ITEMS
from steelyard.verify_schema import VerifyRequest

_Id = Annotated[str, Meta(min_length=1, max_length=256)] | None


class SentItem(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """`steelyard.verify_schema.VerifyItem`."""

    response: str
    truth: str | None = None
    served: dict[str, float] | None = None
    id: _Id = None


class SentBatch(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`steelyard.verify_schema.VerifyRequest`; the specification as it was written."""

    specification: msgspec.Raw
    items: Annotated[list[SentItem], Meta(min_length=1, max_length=MOST_ITEMS)]
    time_limit_ms: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    id: _Id = None


_BATCHES = msgspec.json.Decoder(SentBatch)


def read_batch(body: bytes) -> SentBatch:
    """Raises InvalidRequest that names the item at fault."""
    check_weight(body)
    try:
        return _BATCHES.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        parse_bytes(VerifyRequest, body)
        # What the schema would have let pass, as it reads a whole float as an int.
        raise InvalidRequest(str(error)) from None
