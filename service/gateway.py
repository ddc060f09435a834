"""All that a gateway process holds, from the first second to the last."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from models.checkpoint import Checkpoint, CheckpointError, locate
from models.token_cache import TokenCache
from service.body import Bodies
from service.catalogue import Catalogue
from service.encoding import read_model
from service.gateway_model import GatewayModel
from service.health import Canaries, Unhealthy
from service.images import ImageStore
from service.loading import Loading, Selection
from service.metrics import Metrics
from service.queue import EngineStartError, Queue
from service.queue.frames import Configure
from service.queue.memory import MemoryQueue
from service.scoring import Scoring
from service.settings import Settings

log = logging.getLogger(__name__)


class Gateway:
    """Starts the engine and holds what the routes need; `failure` says why it could not start."""

    def __init__(self, settings: Settings, engine_module: str) -> None:
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
        self.failure: str | None = None
        self.queue: Queue | None = None
        self.scoring: Scoring | None = None
        self.canaries: Canaries | None = None
        self.loading: Loading | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None

    def start(self, on_ready: Callable[[], None], on_failure: Callable[[], None]) -> None:
        """Load in the background, so that health is answered meanwhile; then call one of the two."""
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.create_task(self._start(on_ready, on_failure), name="start")

    async def close(self) -> None:
        """Stop the engine; the server has drained by now."""
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._starting
        if self.queue is not None:
            await self.queue.close()
        if self.scoring is not None:
            self.scoring.close()

    @property
    def progress(self) -> str:
        """What still has to be waited for before groups are taken."""
        return "the models are still loading" if self.queue is None else self.queue.progress

    @property
    def kinds(self) -> list[str]:
        """The kinds of models that are served; none until they are loaded."""
        models = self.scoring.catalogue.models.values() if self.scoring is not None else ()
        return list(dict.fromkeys(model.kind for model in models))

    def drain(self) -> None:
        """Take no more groups; those accepted are still answered. Called from a signal's handler."""
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
        catalogue = Catalogue(models, queue.models(), batch_invariant=settings.batch_invariant)
        scoring = Scoring(settings, queue, self.images, self.metrics, catalogue)
        self.canaries = Canaries(scoring)
        await self.canaries.learn()
        self.loading = Loading(queue, scoring, self.canaries, self.metrics, self._read, served)
        self.scoring = scoring

    def _make_queue(self, served: Selection) -> Queue:
        settings = self.settings
        return MemoryQueue(
            self._configuration(served), settings.log_level, self._on_engine, self._engine_module, settings.drain_s
        )

    def _read(self, name: str, checkpoint: Checkpoint) -> GatewayModel:
        log.info("loading %s from %s", name, checkpoint.directory)
        token_cache = self._token_cache if self.settings.token_cache_bytes else None
        return read_model(name, checkpoint, self.settings.max_tokens, token_cache)

    def _on_engine(self) -> None:
        if self.canaries is not None:
            self.canaries.forget()
        if self.queue is not None:
            self.metrics.engine_restarts.set(self.queue.restarts)

    def _configuration(self, served: Selection) -> Configure:
        settings = self.settings
        return Configure(
            models=served.for_engine,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            batch_tokens=settings.batch_tokens,
            batch_tiles=settings.batch_tiles,
            prefix_cache_bytes=settings.prefix_cache_bytes,
            vision_cache_bytes=settings.vision_cache_bytes,
            batch_invariant=settings.batch_invariant,
        )
