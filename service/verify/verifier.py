"""From a batch of items to its answer: limits, permits, the pool, the lines of the results."""

import time
import uuid
from collections import Counter

import msgspec

import steelyard
from service.drain import retry_after_s
from service.errors import InvalidRequest, Overloaded, QuotaExceeded, Unavailable
from service.metrics import Metrics
from service.permits import Permits
from service.settings import Settings
from service.verify.batch import Batch
from service.verify.body import SentBatch
from service.verify.frames import Item, unverified
from service.verify.pool import Pool
from service.verify.specifications import Known, read_specification
from service.verify.workers import Workers

_DEADLINE_S = 60.0
# Items a second, until something has been measured.
_EXPECTED_PER_S = 5_000.0
_PRIORITY = "verify"


class Verifier:
    """Weighs items for callers; one a gateway. No model is needed for it."""

    def __init__(self, settings: Settings, metrics: Metrics, evaluation: str) -> None:
        self._settings = settings
        self._metrics = metrics
        workers = Workers(evaluation, settings.verify_memory_bytes, settings.log_level)
        self._pool = Pool(workers, settings.verify_workers, self._count_replaced)
        self._permits = Permits(settings.verify_waiting_items, _EXPECTED_PER_S)
        self.draining = False

    async def verify(self, sent: SentBatch, caller: str) -> bytes:
        """The answer as JSON. Raises InvalidRequest, Overloaded, QuotaExceeded and Unavailable."""
        if self.draining:
            raise Unavailable("the server is stopping")
        known = read_specification(bytes(sent.specification))
        self._check(sent, known)
        count = len(sent.items)
        self._enter(count, caller)
        answered = False
        try:
            answer = await self._answer(sent, known)
            answered = True
        finally:
            self._permits.give_back(count, _PRIORITY, caller, time.monotonic(), finished=answered)
            self._metrics.verify_waiting.set(self._permits.held)
        return answer

    async def close(self) -> None:
        await self._pool.close()

    async def _answer(self, sent: SentBatch, known: Known) -> bytes:
        started = time.monotonic()
        batch = self._batch(sent, known, started)
        await self._pool.run(batch)
        results = [result for result in batch.results if result is not None]
        assert len(results) == len(batch.results)
        for status, count in Counter(result.status for result in results).items():
            self._metrics.verified.labels(status).inc(count)
        ended = time.monotonic()
        queue_s = (batch.started or ended) - started
        self._metrics.verify_seconds.observe(ended - started)
        return _written(sent.id, [result.line for result in results], known, queue_s, ended - started)

    def _batch(self, sent: SentBatch, known: Known, now: float) -> Batch:
        limit_ms = sent.time_limit_ms or self._settings.verify_time_limit_ms
        deadline_s = _DEADLINE_S if sent.deadline_ms is None else sent.deadline_ms / 1000
        items = [Item(place, item.id, item.response, item.truth, item.served) for place, item in enumerate(sent.items)]
        batch = Batch(known.content, items, limit_ms / 1000, now + deadline_s, needs_preload=known.needs_preload)
        most = self._settings.verify_characters
        long = [item for item in items if item.characters > most]
        if long:
            batch.turn_away([unverified(item, "too_long", _too_long(item, most)) for item in long])
        return batch

    def _check(self, sent: SentBatch, known: Known) -> None:
        """Raises InvalidRequest."""
        settings = self._settings
        if len(sent.items) > settings.verify_items:
            raise InvalidRequest(f"items: {len(sent.items)}, the limit is {settings.verify_items}")
        if sent.time_limit_ms is not None and sent.time_limit_ms > settings.verify_time_limit_ms:
            raise InvalidRequest(f"time_limit_ms: {sent.time_limit_ms}, the limit is {settings.verify_time_limit_ms}")
        if known.needs_truth or known.served_models:
            for place, item in enumerate(sent.items):
                if item.truth is None and known.needs_truth:
                    raise InvalidRequest(f"items.{place}.truth: the specification reads the solution")
                for model in known.served_models:
                    if item.served is None or model not in item.served:
                        raise InvalidRequest(
                            f"items.{place}.served.{model}: the specification reads this model's score"
                        )

    def _enter(self, count: int, caller: str) -> None:
        """Raises Overloaded and QuotaExceeded."""
        now = time.monotonic()
        lacking = self._permits.lacking(count, 1.0)
        own = self._permits.lacking_to(caller, count, self._settings.key_share)
        if lacking or own:
            self._metrics.refused.labels("key_share" if own > lacking else "verify_items").inc()
            wait_s = retry_after_s(self._permits.seconds_for(max(lacking, own), now))
            refused = QuotaExceeded if own > lacking else Overloaded
            whose = "of this key " if own > lacking else ""
            raise refused(f"too many items {whose}wait to be verified; try again in about {wait_s} s", wait_s)
        self._permits.take(count, _PRIORITY, caller, now)
        self._metrics.verify_waiting.set(self._permits.held)

    def _count_replaced(self, cause: str) -> None:
        self._metrics.verify_replaced.labels(cause).inc()


def _too_long(item: Item, most: int) -> str:
    return f"response and truth together have {item.characters} characters, the limit is {most}"


def _written(given: str | None, lines: list[bytes], known: Known, queue_s: float, total_s: float) -> bytes:
    """`steelyard.verify_schema.VerifyResponse`."""
    head = msgspec.json.encode(given or uuid.uuid4().hex)
    tail = msgspec.json.encode(
        {
            "specification": {
                "name": known.name,
                "digest": known.digest,
                "math_verify": known.math_verify,
                "version": steelyard.__version__,
            },
            "timings_ms": {"queue": round(queue_s * 1000, 3), "total": round(total_s * 1000, 3)},
        }
    )
    results = b",".join(lines)
    return b'{"id":' + head + b',"object":"verification","results":[' + results + b"]," + tail[1:]
