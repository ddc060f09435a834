"""What the engine says of its caches and kernels, as Prometheus reads it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.engine_counts import EngineCounts

Family = CounterMetricFamily | GaugeMetricFamily


class CacheCollector(Collector):
    """`counts` is what the engine said last, None before it said anything."""

    def __init__(self) -> None:
        self.counts: EngineCounts | None = None

    def collect(self) -> Iterator[Family]:
        if self.counts is None:
            return
        looked_up = CounterMetricFamily(
            "steelyard_prefix_cache_looked_up_tokens", "Tokens looked for in the prefix cache", labels=["model"]
        )
        hit = CounterMetricFamily("steelyard_prefix_cache_hit_tokens", "Tokens found there", labels=["model"])
        evicted = CounterMetricFamily(
            "steelyard_prefix_cache_evicted_tokens", "Tokens evicted from the prefix cache", labels=["model"]
        )
        held = GaugeMetricFamily("steelyard_prefix_cache_tokens", "Tokens in the prefix cache", labels=["model"])
        capacity = GaugeMetricFamily(
            "steelyard_prefix_cache_capacity_tokens", "Tokens that the prefix cache holds at most", labels=["model"]
        )
        for model, counts in self.counts.prefixes.items():
            looked_up.add_metric([model], counts.looked_up)
            hit.add_metric([model], counts.hit)
            evicted.add_metric([model], counts.evicted)
            held.add_metric([model], counts.held)
            capacity.add_metric([model], counts.capacity)
        yield from (looked_up, hit, evicted, held, capacity)
        features = self.counts.features
        yield CounterMetricFamily("steelyard_vision_cache_hits", "Pictures found in the vision cache", features.hits)
        yield CounterMetricFamily("steelyard_vision_cache_misses", "Pictures not found there", features.misses)
        yield CounterMetricFamily(
            "steelyard_vision_cache_evicted", "Pictures evicted from the vision cache", features.evicted
        )
        yield GaugeMetricFamily("steelyard_vision_cache_bytes", "Bytes of features kept", features.bytes)
        yield GaugeMetricFamily(
            "steelyard_batch_tokens",
            "Tokens that a forward may hold, less after memory ran out",
            self.counts.batch_tokens,
        )
        fallback = GaugeMetricFamily(
            "steelyard_kernel_fallback", "1 for a kernel that failed at the start and is not run", labels=["kernel"]
        )
        for kernel in self.counts.fallbacks:
            fallback.add_metric([kernel], 1)
        yield fallback
