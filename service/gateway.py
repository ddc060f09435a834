"""All that a gateway process holds, from the first second to the last."""

import asyncio
import logging
from collections.abc import Callable

from models.checkpoint import Checkpoint, CheckpointError, locate
from models.token_cache import TokenCache
from service.body import Bodies
from service.catalogue import Catalogue
from service.collector import catch_up_when
from service.configuration import engine_configuration
from service.encoding import read_model
from service.ending import end
from service.gateway_model import GatewayModel
from service.health import Canaries, Unhealthy
from service.images import ImageStore
from service.jobs import make_store
from service.jobs.runner import Runner
from service.jobs.scoring import scorer
from service.jobs.store import JobLimits, JobStore
from service.loading import Loading, Selection
from service.metrics import Metrics
from service.queue import EngineStartError
from service.queue.connection import connect, disconnect
from service.queue.memory import MemoryQueue
from service.queue.redis import RedisOptions, RedisQueue
from service.scoring import Scoring
from service.settings import Settings
from service.shared_pictures import SharedPictures
from service.verify.verifier import Verifier

log = logging.getLogger(__name__)


class Gateway:
    """Starts the engine and holds what the routes need; `failure` says why it could not start."""

    def __init__(self, settings: Settings, engine_module: str, evaluation_module: str) -> None:
        self.settings = settings
        self._engine_module = engine_module
        self.metrics = Metrics()
        self._token_cache = TokenCache(settings.token_cache_bytes)
        self.metrics.watch_token_cache(self._token_cache)
        self.images = ImageStore(
            budget_bytes=settings.image_store_bytes,
            ttl_s=settings.image_ttl_s,
            max_image_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_call_pixels=settings.max_call_pixels,
        )
        self.bodies = Bodies(settings.max_reading_bytes)
        self.verifier = Verifier(settings, self.metrics, evaluation_module)
        self._redis = None if settings.queue == "memory" else connect(settings.queue)
        self.jobs: JobStore = make_store(self._redis, _job_limits(settings))
        self.runner: Runner | None = None
        self.failure: str | None = None
        self.queue: MemoryQueue | RedisQueue | None = None
        self.scoring: Scoring | None = None
        self.canaries: Canaries | None = None
        self.loading: Loading | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._collecting: asyncio.Task[None] | None = None

    def start(self, on_ready: Callable[[], None], on_failure: Callable[[], None]) -> None:
        """Load in the background, so that health is answered meanwhile; then call one of the two."""
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.create_task(self._start(on_ready, on_failure), name="start")

    async def close(self) -> None:
        """Stop the engine; the server has drained by now."""
        await end([task for task in (self._starting, self._collecting) if task is not None])
        if self.runner is not None:
            await self.runner.close()
        await self.verifier.close()
        if self.queue is not None:
            await self.queue.close()
        if self._redis is not None:
            await disconnect(self._redis)
        if self.scoring is not None:
            self.scoring.close()

    @property
    def progress(self) -> str:
        """What still has to be waited for before groups are taken."""
        return "the models are still loading" if self.queue is None else self.queue.progress

    @property
    def examples(self) -> list[tuple[str, str]]:
        """The kinds of models that are served, each with its example; none until they are loaded."""
        models = self.scoring.catalogue.models.values() if self.scoring is not None else ()
        return list(dict.fromkeys((model.kind, model.example) for model in models))

    def measure(self) -> None:
        """Bring the metrics up to date that are only looked at when somebody asks."""
        self.metrics.image_bytes.set(self.images.bytes)
        self.metrics.caches.counts = self.queue.counts if self.queue is not None else None
        if isinstance(self.queue, RedisQueue):
            for model, waiting in self.queue.waiting.items():
                for rank, tokens in enumerate(waiting):
                    self.metrics.queue_tokens.labels(model, rank).set(tokens)

    def drain(self) -> None:
        """Take no more groups; those accepted are still answered. Called from a signal's handler."""
        self.verifier.draining = True
        if self.scoring is not None:
            self.scoring.draining = True
        if self.loading is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self.loading.drain)

    async def _start(self, on_ready: Callable[[], None], on_failure: Callable[[], None]) -> None:
        try:
            await self._load()
        except (CheckpointError, EngineStartError, Unhealthy) as error:
            self.failure = str(error)
            on_failure()
        except Exception as error:
            log.exception("the server could not start")
            self.failure = f"{type(error).__name__}: {error}"
            on_failure()
        else:
            on_ready()

    async def _load(self) -> None:
        settings = self.settings
        models = {
            name: await asyncio.to_thread(lambda name, source: self._read(name, locate(source)), name, source)
            for name, source in settings.models.items()
        }
        served = Selection(settings.models, models)
        self.queue = queue = self._make_queue(served)
        await queue.start()
        catalogue = Catalogue(models, queue.models(), batch_invariant=queue.batch_invariant)
        claim = queue.claim if isinstance(queue, RedisQueue) else None
        scoring = Scoring(settings, queue, self.images, self.metrics, catalogue, claim)
        self.canaries = Canaries(scoring)
        await self.canaries.learn()
        self.loading = Loading(queue, scoring, self.canaries, self.metrics, self._read, served)
        self.scoring = scoring
        self.runner = Runner(
            self.jobs, scorer(scoring), concurrency=settings.job_concurrency, lease_s=settings.job_lease_s
        )
        self.runner.start()
        self._collecting = asyncio.create_task(catch_up_when(scoring.is_idle), name="collector")

    def _make_queue(self, served: Selection) -> MemoryQueue | RedisQueue:
        settings = self.settings
        if settings.queue == "memory":
            configure = engine_configuration(settings, served.for_engine)
            return MemoryQueue(configure, settings.log_level, self._on_engine, self._engine_module, settings.drain_s)
        options = RedisOptions(
            settings.queue, settings.queue_tokens, int(settings.replay_s * 1000), reuse=settings.result_cache
        )
        expected = {name: model.tokenizer_digest for name, model in served.models.items()}
        queue = RedisQueue(options, expected, self._on_fleet, served.for_engine)
        self.images.share(SharedPictures(queue, asyncio.get_running_loop(), settings.image_ttl_s))
        return queue

    def _read(self, name: str, checkpoint: Checkpoint) -> GatewayModel:
        log.info("loading %s from %s", name, checkpoint.directory)
        token_cache = self._token_cache if self.settings.token_cache_bytes else None
        return read_model(name, checkpoint, self.settings.max_tokens, token_cache)

    def _on_fleet(self) -> None:
        """The workers serve other weights, sleep or wake, perhaps by another gateway's order."""
        if self.loading is not None and isinstance(self.queue, RedisQueue):
            self.loading.follow(asleep=self.queue.asleep)

    def _on_engine(self) -> None:
        if self.canaries is not None:
            self.canaries.forget()
        if self.queue is not None:
            self.metrics.engine_restarts.set(self.queue.restarts)


def _job_limits(settings: Settings) -> JobLimits:
    return JobLimits(groups=settings.job_groups, bytes=settings.jobs_bytes, ttl_s=settings.job_ttl_s)
