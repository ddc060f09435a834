"""What all workers of a fleet are told, carried out by each: sleep, wake, reload."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from models.checkpoint import CheckpointError, tokenizer_digest
from service.hand import Hand
from service.queue import EngineStartError
from service.queue.connection import AWAY
from service.queue.frames import EngineModelSource
from service.queue.memory import MemoryQueue
from service.queue.redis_codec import Loaded, Standing, unpack_sources
from service.queue.redis_worker import RedisWorker

log = logging.getLogger(__name__)

_LOOK_S = 0.1


class Orders:
    """Follows the orders in Redis, and knows how far this worker is with them.

    A reload is carried out by all at once: nobody loads before everybody has finished what he had in hand, so that no
    two digests are ever served under one name.
    """

    def __init__(
        self,
        redis: RedisWorker,
        local: MemoryQueue,
        hand: Hand,
        sources: tuple[EngineModelSource, ...],
        *,
        batch_invariant: bool,
        beat: Callable[[], Awaitable[object]],
    ) -> None:
        self._redis, self._local, self._hand, self._beat = redis, local, hand, beat
        self._batch_invariant = batch_invariant
        self._tokenizers = _tokenizers(sources)
        self._state, self._version, self._trouble = "loading", 0, ""
        # Of what is loaded, and of what the next wake loads.
        self.generation = self._next_generation = 0

    @property
    def may_take(self) -> bool:
        return self._state == "awake" and self._version == self._redis.ordered

    @property
    def is_settled(self) -> bool:
        """Whether what is loaded is what was ordered last; in between, some have the new weights and some the old."""
        return self._state in ("awake", "asleep") and self.generation == self._next_generation

    def standing(self) -> Standing:
        return Standing(self._state, self._version, self.generation, self._trouble)

    def loaded(self) -> list[Loaded]:
        """Empty before the first models are loaded."""
        return [Loaded(model, self._tokenizers[model.name], self._batch_invariant) for model in self._local.models()]

    async def start(self) -> None:
        """Load the models, those that an earlier order named; or sleep, where that was ordered.

        Raises EngineStartError and CheckpointError.
        """
        orders = await self._redis.orders()
        # Nothing is loaded before it is known what.
        await self._local.sleep()
        generation = int(orders.get("generation", b"0"))
        if generation and await self._redis.is_served(generation):
            await self._adopt(unpack_sources(orders["sources"]), generation)
        self._version = int(orders.get("version", b"0"))
        await self._sleep_or_wake(is_asleep=orders.get("asleep") == b"1")

    async def follow(self) -> None:
        """For ever."""
        while True:
            if self._redis.ordered != self._version:
                try:
                    await self._obey()
                except AWAY:
                    log.warning("Redis went away in the middle of an order: it is begun again")
            await asyncio.sleep(_LOOK_S)

    async def _obey(self) -> None:
        orders = await self._redis.orders()
        version, generation = int(orders["version"]), int(orders.get("generation", b"0"))
        self._trouble = ""
        try:
            if generation > self._next_generation:
                await self._reload(unpack_sources(orders["sources"]), generation)
            await self._sleep_or_wake(is_asleep=orders.get("asleep") == b"1")
        except (EngineStartError, CheckpointError) as error:
            log.error("an order could not be carried out: %s", error)
            self._trouble = str(error)
        self._version = version
        self._hand.changed.set()
        await self._beat()

    async def _sleep_or_wake(self, *, is_asleep: bool) -> None:
        if is_asleep and self._state != "asleep":
            await self._hand.emptied()
            await self._local.sleep()
            self._state = "asleep"
            log.info("asleep: the device's memory is free")
        elif not is_asleep and self._state != "awake":
            before, self._state = self._state, "loading"
            try:
                await self._local.wake()
            except EngineStartError:
                self._state = before
                raise
            self._state, self.generation = "awake", self._next_generation
            log.info("awake")

    async def _reload(self, sources: tuple[EngineModelSource, ...], generation: int) -> None:
        await self._hand.emptied()
        is_asleep = self._state == "asleep"
        self._state = "asleep" if is_asleep else "drained"
        try:
            if not is_asleep:
                await self._others_are_ready(generation)
            await self._adopt(sources, generation)
            if not is_asleep:
                self.generation = generation
            log.info("other weights are loaded%s", " by the next wake" if is_asleep else "")
        finally:
            self._state = "asleep" if is_asleep else "awake"

    async def _others_are_ready(self, generation: int) -> None:
        """Everybody who lives has nothing in hand, or is past that already."""
        while True:
            await self._beat()
            standings = await self._redis.standings()
            if all(each.state in ("drained", "asleep") or each.generation >= generation for each in standings):
                return
            await asyncio.sleep(_LOOK_S)

    async def _adopt(self, sources: tuple[EngineModelSource, ...], generation: int) -> None:
        """Raises EngineStartError, and serves those before, and CheckpointError."""
        # Whoever orders again after a failure means another one.
        self._next_generation = generation
        tokenizers = await asyncio.to_thread(_tokenizers, sources)
        if tokenizers != self._tokenizers:
            raise EngineStartError("the tokeniser is another one, and jobs are waiting in the old one's tokens")
        await self._local.reload(sources)


def _tokenizers(sources: tuple[EngineModelSource, ...]) -> dict[str, str]:
    """Raises CheckpointError."""
    found = {}
    for source in sources:
        if not Path(source.directory).is_dir():
            raise CheckpointError(f"{source.name}: {source.directory} is no folder on this machine")
        found[source.name] = tokenizer_digest(Path(source.directory))
    return found
