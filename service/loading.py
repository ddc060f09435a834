"""The models come and go: put to sleep for another user of the device, woken, reloaded with other weights."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import Checkpoint, CheckpointError, locate
from service.errors import CannotLoad, InvalidRequest, ServiceError, Unavailable
from service.gateway_model import GatewayModel
from service.health import LEARNING_S, Canaries, Unhealthy
from service.metrics import Metrics
from service.queue import EngineDied, EngineStartError, Queue
from service.queue.frames import EngineModelSource
from service.scoring import Scoring

log = logging.getLogger(__name__)

_ASLEEP = "the models are asleep; POST /admin/wake"
_STOPPING = "the server is stopping"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*@[\w-][\w./-]*")


@dataclass(frozen=True, slots=True)
class Selection:
    """Sources by served name, and what a gateway has read of them."""

    sources: Mapping[str, str]
    models: Mapping[str, GatewayModel]

    @property
    def for_engine(self) -> tuple[EngineModelSource, ...]:
        return tuple(EngineModelSource(name, str(model.directory)) for name, model in self.models.items())

    def as_sent(self, message: str) -> str:
        """A message with the sources' own names in place of where they lie on this machine."""
        for name, model in self.models.items():
            message = message.replace(str(model.directory), self.sources[name])
        return message


class Loading:
    """What is loaded, changed by one order at a time; the others wait."""

    def __init__(
        self,
        queue: Queue,
        scoring: Scoring,
        canaries: Canaries,
        metrics: Metrics,
        read: Callable[[str, Checkpoint], GatewayModel],
        served: Selection,
    ) -> None:
        self._queue = queue
        self._scoring = scoring
        self._canaries = canaries
        self._metrics = metrics
        self._read = read
        self._served = served
        # What the next wake loads, when that is something else.
        self._next: Selection | None = None
        self._changing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self.asleep = self.reloading = False

    async def sleep(self) -> None:
        """Returns when no engine is left; groups are accepted, and wait."""
        async with self._changing:
            self._check_stopping()
            if self.asleep:
                return
            log.info("the models go to sleep")
            self.asleep = True
            self._metrics.asleep.set(1)
            self._canaries.pause(_ASLEEP)
            await self._queue.sleep()
            log.info("the models are asleep: the device's memory is free")
            if self._scoring.draining:
                self.drain()

    async def wake(self) -> None:
        """Returns when groups are scored again. Raises CannotLoad and Unavailable, and sleeps on."""
        async with self._changing:
            self._check_stopping()
            if not self.asleep:
                return
            log.info("the models wake")
            await self._wake(self._next)
            self.asleep, self._next = False, None
            self._metrics.asleep.set(0)
            self._canaries.resume()
            self._scoring.gate.release()
            log.info("the models are awake")

    async def reload(self, sources: Mapping[str, str]) -> None:
        """Serve these in place of those of the same name, and read the others again; groups wait meanwhile.

        Asleep, the next wake loads them. Raises InvalidRequest, CannotLoad and Unavailable, and serves those before.
        """
        async with self._changing:
            self._check_stopping()
            try:
                await self._reload(await self._select(sources))
            except ServiceError as error:
                self._metrics.reloads.labels("failed").inc()
                log.error("the reload failed: %s", error)
                raise
            self._metrics.reloads.labels("ok").inc()

    def follow(self, *, asleep: bool) -> None:
        """Engines that others command too serve other weights, sleep or wake."""
        if self._changing.locked():
            return
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(self._follow(asleep))

    async def _follow(self, asleep: bool) -> None:
        async with self._changing:
            self.asleep = asleep
            self._metrics.asleep.set(int(asleep))
            if asleep:
                self._canaries.pause(_ASLEEP)
                return
            self._canaries.resume()
            catalogue = self._scoring.catalogue
            if [*self._queue.models()] != [*catalogue.loaded.values()]:
                catalogue.replace(catalogue.models, self._queue.models())
                try:
                    await self._canaries.learn()
                except Unhealthy as error:
                    log.error("the weights that the workers serve now: %s", error)

    def drain(self) -> None:
        """The server stops: what waits for a wake is turned away, since none can come any more."""
        if self.asleep and self._stopping is None:
            self._scoring.gate.give_up(_STOPPING)
            self._stopping = asyncio.create_task(self._queue.close())

    def _check_stopping(self) -> None:
        if self._scoring.draining:
            raise Unavailable(_STOPPING)

    async def _wake(self, other: Selection | None) -> None:
        """With other weights than before, those are tried before anybody gets their scores."""
        try:
            await self._queue.wake()
        except EngineStartError as error:
            raise _refusal(error, other or self._served) from None
        if other is not None:
            try:
                await self._adopt(other)
            except Unhealthy as error:
                await self._queue.sleep()
                raise CannotLoad(str(error)) from None

    async def _reload(self, other: Selection) -> None:
        self._scoring.gate.hold()
        if self.asleep:
            await self._queue.reload(other.for_engine)
            self._next = other
            log.info("other weights are loaded by the next wake")
        else:
            await self._reload_now(other)

    async def _reload_now(self, other: Selection) -> None:
        self.reloading = True
        self._canaries.pause("other weights are being loaded")
        try:
            await self._replace(other)
        finally:
            self.reloading = False
            if self.asleep:
                self._canaries.pause(_ASLEEP)
            else:
                self._canaries.resume()
                self._scoring.gate.release()

    async def _replace(self, other: Selection) -> None:
        log.info("other weights are loaded as soon as those before have finished what they began")
        before = self._served
        try:
            await self._queue.reload(other.for_engine)
        except EngineStartError as error:
            raise _refusal(error, other) from None
        try:
            await self._adopt(other)
        except Unhealthy as error:
            await self._return_to(before)
            raise CannotLoad(str(error)) from None
        log.info("other weights are served: %s", ", ".join(model.weights for model in self._queue.models()))

    async def _return_to(self, before: Selection) -> None:
        """Or sleep: the numbers of weights that have not passed are worse than none."""
        try:
            await self._queue.reload(before.for_engine)
            if [*self._queue.models()] == [*self._scoring.catalogue.loaded.values()]:
                return
            reason = "they are others on disk now"
        except EngineStartError as error:
            reason = str(error)
        log.error("the weights before cannot be loaded any more, the models go to sleep: %s", reason)
        self.asleep, self._next = True, before
        self._metrics.asleep.set(1)
        await self._queue.sleep()
        await self._queue.reload(before.for_engine)

    async def _adopt(self, other: Selection) -> None:
        """Make what the engine has loaded what is served, if its canaries come back. Raises Unhealthy."""
        catalogue = self._scoring.catalogue
        before = catalogue.models, [*catalogue.loaded.values()]
        catalogue.replace(other.models, self._queue.models())
        try:
            async with asyncio.timeout(LEARNING_S):
                await self._canaries.learn()
        except (Unhealthy, TimeoutError) as error:
            catalogue.replace(*before)
            raise Unhealthy(str(error) or f"the canaries did not come back within {LEARNING_S:.0f} s") from None
        self._served = other

    async def _select(self, given: Mapping[str, str]) -> Selection:
        """Raises InvalidRequest, and CannotLoad for what is no checkpoint of the same family."""
        before = self._next or self._served
        for name in given.keys() - before.sources.keys():
            raise InvalidRequest(f"models.{name}: no such model is served; there is {', '.join(before.sources)}")
        for name, source in given.items():
            _check_is_checkpoint(name, source)
        sources = {**before.sources, **given}
        models = {name: await asyncio.to_thread(self._read_as_sent, name, source) for name, source in sources.items()}
        for name, model in models.items():
            family = self._served.models[name].family
            if model.family != family:
                raise CannotLoad(f"models.{name}: {sources[name]} is {model.family}, and {name} is {family}")
        return Selection(sources, models)

    def _read_as_sent(self, name: str, source: str) -> GatewayModel:
        directory = source
        try:
            checkpoint = locate(source)
            directory = str(checkpoint.directory)
            return self._read(name, checkpoint)
        except CheckpointError as error:
            raise CannotLoad(f"models.{name}: {str(error).replace(directory, source)}") from None


def _check_is_checkpoint(name: str, source: str) -> None:
    """Raises CannotLoad, in the same words for any other folder and for none: what else lies here is not told."""
    is_hub_id = _HUB_ID.fullmatch(source) is not None
    try:
        is_folder = (Path(source).expanduser() / "config.json").is_file()
    except (OSError, RuntimeError, ValueError):
        is_folder = False
    if not is_hub_id and not is_folder:
        words = "no checkpoint's folder, and not a hub id of the form ORG/REPO@REVISION"
        raise CannotLoad(f"models.{name}: {source}: {words}")


def _refusal(error: EngineStartError, asked: Selection) -> ServiceError:
    """One that died may have found the device's memory taken, and is worth another try."""
    kind = Unavailable if isinstance(error, EngineDied) else CannotLoad
    return kind(asked.as_sent(str(error)))
