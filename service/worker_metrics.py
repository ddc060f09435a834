"""What a worker shows to Prometheus, on a port of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from service.cache_metrics import CacheCollector
from service.settings import SettingsError


class WorkerMetrics:
    """Counts of one worker; shown once `serve` is called."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.caches = CacheCollector()
        registry.register(self.caches)
        self.in_hand = Gauge("steelyard_worker_jobs_in_hand", "Groups taken and not yet answered", registry=registry)
        self.delivered = Counter("steelyard_worker_results", "Groups answered", registry=registry)
        self.reclaimed = Counter("steelyard_worker_reclaims", "Dead workers whose groups went back", registry=registry)
        self.dead_letters = Counter("steelyard_worker_dead_letters", "Groups given up", registry=registry)
        self.engine_restarts = Gauge("steelyard_engine_restarts", "Engine processes started again", registry=registry)

    def serve(self, host: str, port: int) -> None:
        """Raises SettingsError when it cannot listen there."""
        try:
            start_http_server(port, host, self._registry)
        except OSError as error:
            raise SettingsError(f"--metrics-port {port}: cannot listen on {host}: {error.strerror}") from None
