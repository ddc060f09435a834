"""A group being scored: what is known of it so far, and who is waiting for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from service.errors import ServiceError
from steelyard.schema import CandidateScore, ScoredGroup


class Abandoned(Exception):
    """Everybody who waited for the group has gone."""


class Flight:
    """Results in the order in which they become known, then the rest of the answer or an error."""

    def __init__(self) -> None:
        self.results: list[CandidateScore] = []
        self._group: ScoredGroup | None = None
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._waiters = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, score: Callable[[], Awaitable[ScoredGroup]], on_end: Callable[[], None] = lambda: None) -> None:
        """`on_end` is called once however it ends, also when it is dropped before its first step."""
        self._task = asyncio.create_task(self._fly(score))
        self._task.add_done_callback(lambda _: on_end())

    @property
    def landed(self) -> bool:
        """Whether the answer is whole."""
        return self._group is not None

    @property
    def weights(self) -> str | None:
        """The digest of what scored, once the answer is whole."""
        return None if self._group is None else self._group.provenance.weights

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def abandoned(self) -> bool:
        return isinstance(self._error, Abandoned)

    def publish(self, result: CandidateScore) -> None:
        self.results.append(result)
        self._notify()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Somebody waits while this is open; when the last one leaves early, the work is dropped."""
        self._waiters += 1
        try:
            yield
        finally:
            self._waiters -= 1
            self._drop(Abandoned())

    def refuse(self, error: ServiceError) -> None:
        """Drop it, unless somebody waits for it, because what was to fly with it is refused."""
        self._drop(error)

    async def stream(self) -> AsyncIterator[CandidateScore]:
        """Each result once, from the first on. Raises what stopped the scoring."""
        sent = 0
        while not (self.landed or self.failed) or sent < len(self.results):
            if sent < len(self.results):
                yield self.results[sent]
                sent += 1
            else:
                await self._changed.wait()
        if self._error is not None:
            raise self._error

    async def group(self) -> ScoredGroup:
        """All of the answer but its results, once it is whole. Raises what stopped the scoring."""
        while self._group is None:
            if self._error is not None:
                raise self._error
            await self._changed.wait()
        return self._group

    def _drop(self, error: ServiceError | Abandoned) -> None:
        if not self._waiters and self._task is not None and not self._task.done():
            self._error = error
            self._task.cancel()

    async def _fly(self, score: Callable[[], Awaitable[ScoredGroup]]) -> None:
        try:
            self._group = await score()
        except asyncio.CancelledError:
            self._error = Abandoned()
        except Exception as error:  # noqa: BLE001
            # Handed to every waiter, each of which answers its caller. A refusal's frames hold the whole request.
            self._error = error.with_traceback(None) if isinstance(error, ServiceError) else error
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@contextmanager
def all_attended(flights: Iterable[Flight]) -> Iterator[None]:
    """Somebody waits for every one of them while this is open."""
    with ExitStack() as attended:
        for flight in flights:
            attended.enter_context(flight.attended())
        yield


async def all_groups(flights: Iterable[Flight]) -> list[ScoredGroup]:
    """Every answer, in order. Raises what stopped the first that fails."""
    return await asyncio.gather(*(flight.group() for flight in flights))
