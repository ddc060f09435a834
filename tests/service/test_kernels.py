"""What an engine says of its kernels."""

import httpx2
import torch

from loadtest.valkey import free_port
from models.prefix_cache import CacheCounts
from service.cache_metrics import CacheCollector
from service.engine_counts import EngineCounts
from service.engine_process import try_kernels
from service.feature_cache import FeatureCounts
from service.metrics import Metrics
from service.queue.frames import Counted, pack_frame, to_gateway
from service.worker_metrics import WorkerMetrics

COUNTS = EngineCounts({"m": CacheCounts(0, 0, 0, 0, 0)}, FeatureCounts(0, 0, 0, 0, 0), 1024, ("rotary",))
FALLBACK = b'steelyard_kernel_fallback{kernel="rotary"} 1.0'


def test_a_processor_tries_no_kernel() -> None:
    assert try_kernels(torch.device("cpu")) == ()


def test_a_kernel_that_is_off_is_a_metric() -> None:
    metrics = Metrics()
    assert b"steelyard_kernel_fallback" not in metrics.render()
    metrics.caches.counts = _told(COUNTS)
    assert FALLBACK in metrics.render()
    assert isinstance(metrics.caches, CacheCollector)


def test_a_worker_shows_it_on_its_own_port() -> None:
    metrics, port = WorkerMetrics(), free_port()
    metrics.caches.counts = _told(COUNTS)
    metrics.serve("127.0.0.1", port)
    assert FALLBACK in httpx2.get(f"http://127.0.0.1:{port}/metrics").content


def _told(counts: EngineCounts) -> EngineCounts:
    """As it arrives over the pipe."""
    frame = to_gateway(pack_frame(Counted(counts))[4:])
    assert isinstance(frame, Counted)
    return frame.counts
