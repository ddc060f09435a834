"""Every metric of a gateway, named once."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self.image_bytes = Gauge("steelyard_image_store_bytes", "Bytes of pictures kept", registry=registry)
        # The engine counts; its counts start anew with it, as those of a process do.
        self.caches = CacheCollector()
        registry.register(self.caches)
        self.engine_restarts = Gauge("steelyard_engine_restarts", "Engine processes started again", registry=registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)
