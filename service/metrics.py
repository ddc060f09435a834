"""Every metric of a gateway, named once."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.token_cache import TokenCache
from service.cache_metrics import CacheCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class Metrics:
    """A registry of its own, so that two apps in one process do not share counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("steelyard_requests", "HTTP requests", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "steelyard_request_seconds",
            "HTTP request duration",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.candidates = Counter("steelyard_candidates", "Candidates answered", ["model", "status"], registry=registry)
        self.groups = Counter("steelyard_groups", "Groups accepted", ["model", "priority"], registry=registry)
        self.waiting = Gauge("steelyard_waiting_groups", "Groups accepted and not yet answered", registry=registry)
        self.waiting_tokens = Gauge(
            "steelyard_waiting_tokens", "Their tokens, estimated", ["priority"], registry=registry
        )
        self.waiting_tiles = Gauge(
            "steelyard_waiting_tiles", "Tiles of their pictures, estimated", ["priority"], registry=registry
        )
        self.refused = Counter(
            "steelyard_refused_groups", "Groups answered 429, by what was short", ["reason"], registry=registry
        )
        self.drained = Gauge(
            "steelyard_drained_per_second",
            "Groups, tokens and tiles answered, a second of work",
            ["kind"],
            registry=registry,
        )
        self.queue_tokens = Gauge(
            "steelyard_queue_tokens",
            "Tokens that wait in Redis or are in hand, of all gateways",
            ["model", "rank"],
            registry=registry,
        )
        self.abandoned = Counter("steelyard_abandoned_groups", "Groups whose caller hung up", registry=registry)
        self.replayed = Counter("steelyard_replayed_groups", "Groups answered from a repeated id", registry=registry)
        self.tokens = Counter(
            "steelyard_tokens", "Prompt tokens, by how they were had", ["model", "how"], registry=registry
        )
        self.tiles = Counter("steelyard_tiles", "Tiles encoded", ["model"], registry=registry)
        self.encode_seconds = Histogram(
            "steelyard_encode_seconds",
            "Tokenising and checking pictures",
            registry=registry,
            buckets=_SECONDS,
        )
        self.queue_seconds = Histogram(
            "steelyard_queue_seconds", "Submitted until its forward", registry=registry, buckets=_SECONDS
        )
        self.forward_seconds = Histogram(
            "steelyard_forward_seconds", "One forward", registry=registry, buckets=_SECONDS
        )
        self.verified = Counter("steelyard_verified_items", "Items of /verify answered", ["status"], registry=registry)
        self.verify_waiting = Gauge(
            "steelyard_verify_waiting_items", "Items of /verify accepted and not yet answered", registry=registry
        )
        self.verify_seconds = Histogram(
            "steelyard_verify_seconds",
            "A batch of /verify, accepted until answered",
            registry=registry,
            buckets=_SECONDS,
        )
        self.verify_replaced = Counter(
            "steelyard_verify_workers_replaced", "Workers of /verify killed or retired", ["cause"], registry=registry
        )
        self.image_bytes = Gauge("steelyard_image_store_bytes", "Bytes of pictures kept", registry=registry)
        # The engine counts; its counts start anew with it, as those of a process do.
        self.caches = CacheCollector()
        registry.register(self.caches)
        self.engine_restarts = Gauge("steelyard_engine_restarts", "Engine processes started again", registry=registry)
        self.asleep = Gauge("steelyard_asleep", "1 while the models are asleep and groups wait", registry=registry)
        self.reloads = Counter(
            "steelyard_reloads", "Times that other weights were asked for", ["result"], registry=registry
        )

    def watch_token_cache(self, cache: TokenCache) -> None:
        self._registry.register(_TokenCacheCollector(cache))

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _TokenCacheCollector(Collector):
    """The cache's own counts, read when somebody asks for them."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        cache, name = self._cache, "steelyard_token_cache"
        yield CounterMetricFamily(f"{name}_hits", "Texts that were not tokenised again", cache.hits)
        yield CounterMetricFamily(f"{name}_misses", "Texts tokenised", cache.misses)
        yield CounterMetricFamily(f"{name}_evictions", "Texts dropped for newer ones", cache.evictions)
        yield GaugeMetricFamily(f"{name}_bytes", "Bytes of texts kept with their tokens", cache.bytes)
