"""The frames that gateway and engine process exchange over their pipe, and how bytes become frames.

A frame is four bytes of length, then msgpack.
"""

import msgspec

from service.engine_counts import EngineCounts
from service.job import Delivery, EngineModel, Job

LENGTH_BYTES = 4


class EngineModelSource(msgspec.Struct, frozen=True):
    """A model to load: its served name and the checkpoint's folder."""

    name: str
    directory: str


class Configure(msgspec.Struct, frozen=True, tag=True):
    """First frame to an engine: what to load and how to run it."""

    models: tuple[EngineModelSource, ...]
    device: str
    dtype: str
    threads: int | None
    batch_tokens: int
    batch_tiles: int
    prefix_cache_bytes: int
    vision_cache_bytes: int
    batch_invariant: bool


class Submit(msgspec.Struct, frozen=True, tag=True):
    job: Job


class Withdraw(msgspec.Struct, frozen=True, tag=True):
    job: str


class Blob(msgspec.Struct, frozen=True, tag=True):
    """Answer to Fetch; None when the gateway no longer has the bytes."""

    digest: str
    content: bytes | None


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Deliver what is in the forward, begin nothing more, and exit."""


class Loading(msgspec.Struct, frozen=True, tag=True):
    """Bytes of a model's weights read so far."""

    model: str
    done: int
    total: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    models: tuple[EngineModel, ...]


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """The models cannot be served; `message` is one line for the operator."""

    message: str


class Fetch(msgspec.Struct, frozen=True, tag=True):
    digest: str


class Began(msgspec.Struct, frozen=True, tag=True):
    """These jobs are in the forward that starts now."""

    jobs: tuple[str, ...]


class Delivered(msgspec.Struct, frozen=True, tag=True):
    delivery: Delivery


class Counted(msgspec.Struct, frozen=True, tag=True):
    counts: EngineCounts


ToEngine = Configure | Submit | Withdraw | Blob | Stop
ToGateway = Loading | Ready | StartFailed | Fetch | Began | Delivered | Counted

_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_to_gateway: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(ToGateway)


def pack_frame(frame: ToEngine | ToGateway) -> bytes:
    body = _encoder.encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def to_engine(body: bytes) -> ToEngine:
    return _to_engine.decode(body)


def to_gateway(body: bytes) -> ToGateway:
    return _to_gateway.decode(body)
