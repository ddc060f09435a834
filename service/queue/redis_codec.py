"""What a job and its result are in Redis: msgpack, named by what they hold."""

import dataclasses
import hashlib
from collections.abc import Sequence

import msgspec

from service.job import Delivery, EngineModel, Job, Outcome
from service.queue.frames import EngineModelSource


class Result(msgspec.Struct, frozen=True):
    """All that came of a job, whichever worker it was."""

    outcomes: tuple[Outcome, ...]
    computed_tokens: int
    tiles: int
    queue_ms: float
    forward_ms: float
    weights: str


class Loaded(msgspec.Struct, frozen=True):
    """A model as a whole fleet must have loaded it: one name stands for one thing."""

    model: EngineModel
    tokenizer: str
    batch_invariant: bool


class Standing(msgspec.Struct, frozen=True):
    """What a worker says of itself with each beat of its heart.

    `state` is "loading", "awake", "asleep" or "drained" (it has nothing in hand, and waits for others to be so too);
    `version` is the last order that it has carried out, `generation` the one by which its weights were loaded.
    """

    state: str
    version: int = 0
    generation: int = 0
    trouble: str = ""


_encoder = msgspec.msgpack.Encoder()
_job = msgspec.msgpack.Decoder(Job)
_result = msgspec.msgpack.Decoder(Result)
_loaded = msgspec.msgpack.Decoder(Loaded)
_sources = msgspec.msgpack.Decoder(tuple[EngineModelSource, ...])
_standing = msgspec.msgpack.Decoder(Standing)


def content_of(job: Job, weights: str) -> str:
    """Equal for jobs that must get equal scores; 32 hexadecimal digits."""
    asked = (job.model, weights, job.prefix, job.candidates, job.pictures, job.plain, job.done)
    return hashlib.blake2b(_encoder.encode(asked), digest_size=16).hexdigest()


def pack_job(job: Job, content: str) -> bytes:
    """Without what only its gateway's clock understands, and what may change while it waits."""
    return _encoder.encode(dataclasses.replace(job, id=content, submitted=0.0, deadline=None, deaths=0))


def unpack_job(body: bytes) -> Job:
    return _job.decode(body)


def pack_result(result: Result) -> bytes:
    """A first byte says whether it may be given to whoever asks the same again."""
    is_final = not any(outcome.status != "ok" and outcome.retryable for outcome in result.outcomes)
    return (b"1" if is_final else b"0") + _encoder.encode(result)


def unpack_result(payload: bytes) -> Result:
    return _result.decode(memoryview(payload)[1:])


def pack(value: Loaded | Standing) -> bytes:
    return _encoder.encode(value)


def unpack_loaded(body: bytes) -> Loaded:
    return _loaded.decode(body)


def pack_sources(sources: Sequence[EngineModelSource]) -> bytes:
    return _encoder.encode(list(sources))


def unpack_sources(body: bytes) -> tuple[EngineModelSource, ...]:
    return _sources.decode(body)


def unpack_standing(body: bytes) -> Standing:
    return _standing.decode(body)


def result_of(deliveries: Sequence[Delivery], weights: str) -> Result:
    """Deliveries of one job, added up."""
    return Result(
        outcomes=tuple(outcome for delivery in deliveries for outcome in delivery.outcomes),
        computed_tokens=sum(delivery.computed_tokens for delivery in deliveries),
        tiles=sum(delivery.tiles for delivery in deliveries),
        queue_ms=deliveries[0].queue_ms,
        forward_ms=sum(delivery.forward_ms for delivery in deliveries),
        weights=weights,
    )


def delivery_of(result: Result, job: str, *, is_charged: bool) -> Delivery:
    """For one who waited; what was computed is charged to the one for whom it was."""
    return Delivery(
        job=job,
        outcomes=result.outcomes,
        computed_tokens=result.computed_tokens if is_charged else 0,
        tiles=result.tiles if is_charged else 0,
        queue_ms=result.queue_ms if is_charged else 0.0,
        forward_ms=result.forward_ms if is_charged else 0.0,
        weights=result.weights,
    )


def cost_of(job: Job) -> int:
    """Tokens that its forward holds at most, a tile counted as 256."""
    suffixes = sum(len(candidate.suffix) for candidate in job.candidates)
    own = (picture for candidate in job.candidates for picture in candidate.pictures)
    tiles = sum(picture.tiles for picture in (*job.pictures, *own))
    return (len(job.prefix) + suffixes) // 4 + 256 * tiles
