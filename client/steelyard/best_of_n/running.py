"""A search put to work: what is due is drawn and scored, many at a time, and the search is told what came of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steelyard.best_of_n.candidates import Candidate, Draw, Drawn, Worth, candidate_of
from steelyard.best_of_n.chat import Generator
from steelyard.best_of_n.chat_format import Asked
from steelyard.best_of_n.failures import GeneratorFailed, GeneratorGone
from steelyard.best_of_n.scorer import Scorer
from steelyard.best_of_n.search import Search

Clock = Callable[[], float]
_NOT_NEEDED = Worth("not_needed", detail="the search stopped before it was scored")


@dataclass(frozen=True, slots=True)
class Progress:
    """A draw has its text, or has settled; `settled` of the `begun` have."""

    kind: Literal["generated", "settled"]
    draw: Draw
    candidate: Candidate | None
    settled: int
    begun: int
    elapsed_s: float


OnProgress = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class _Generated:
    draw: Draw


class Running:
    """One search on its way; each draw is a task that generates and, while others still do, scores."""

    def __init__(
        self,
        search: Search,
        asked: Asked,
        generator: Generator,
        scorer: Scorer,
        *,
        stepwise: bool,
        on_progress: OnProgress | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._search, self._asked, self._stepwise = search, asked, stepwise
        self._generator, self._scorer = generator, scorer
        self._on_progress, self._clock = on_progress, clock
        self._began = clock()
        self._events: asyncio.Queue[_Generated | Candidate | Exception] = asyncio.Queue()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._draws: dict[int, tuple[Draw, float]] = {}
        self._drawn: dict[int, Drawn] = {}
        self._generated_s: dict[int, float] = {}
        self._worths: dict[int, Worth] = {}
        self.candidates: dict[int, Candidate] = {}

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    async def run(self, seconds: float | None) -> Sequence[Candidate]:
        """Every candidate by number, once the search has stopped. Raises what ends it for good."""
        try:
            while self._search.stopped is None:
                self._begin()
                self._tell(await self._next(seconds))
                self._search.pass_time(self.elapsed_s)
        finally:
            await self._drop()
        return [self.candidates[number] for number in sorted(self.candidates)]

    def _begin(self) -> None:
        for draw in self._search.due():
            self._draws[draw.number] = (draw, self.elapsed_s)
            self._tasks[draw.number] = asyncio.create_task(self._try(draw))
        under_way = any(not task.done() for task in self._tasks.values())
        assert under_way or not self._events.empty(), "a search that has not stopped has nothing under way"

    async def _next(self, seconds: float | None) -> _Generated | Candidate | None:
        """The next thing that happens, or None when the time is up. Raises what ends the search for good."""
        try:
            async with asyncio.timeout(None if seconds is None else max(0.0, seconds - self.elapsed_s)):
                event = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(event, Exception):
            raise event
        return event

    def _tell(self, event: _Generated | Candidate | None) -> None:
        if isinstance(event, _Generated):
            self._search.generated(event.draw.number)
            self._show("generated", event.draw, None)
        elif event is not None:
            self.candidates[event.number] = event
            self._search.settle(event)
            self._show("settled", self._draws[event.number][0], event)

    def _show(self, kind: Literal["generated", "settled"], draw: Draw, candidate: Candidate | None) -> None:
        if self._on_progress is not None:
            begun = len(self._draws)
            self._on_progress(Progress(kind, draw, candidate, len(self.candidates), begun, self.elapsed_s))

    async def _try(self, draw: Draw) -> None:
        """One draw from its beginning to its score, or to why it has none."""
        try:
            self._drawn[draw.number] = await self._generator.draw(self._asked, draw, one_step=self._stepwise)
            self._generated_s[draw.number] = self.elapsed_s
            self._events.put_nowait(_Generated(draw))
            self._settle(draw, await self._weigh(draw, self._drawn[draw.number]))
        except GeneratorGone as error:
            self._events.put_nowait(error)
        except GeneratorFailed as error:
            self._settle(draw, Worth("not_generated", detail=error.message))
        except Exception as error:  # noqa: BLE001
            # Raised to the caller, who waits for the search and not for this task.
            self._events.put_nowait(error)

    async def _weigh(self, draw: Draw, drawn: Drawn) -> Worth:
        if not drawn.text:
            if drawn.ended and draw.parent is not None:
                # A solution that ends without another word is worth what it was.
                return replace(self._worths[draw.parent], computed_tokens=0, cached_tokens=0)
            return Worth("empty", detail="the generator gave no text")
        return await self._scorer.weigh(self._asked, (*draw.steps, drawn.text) if self._stepwise else drawn.text)

    def _settle(self, draw: Draw, worth: Worth) -> None:
        self._worths[draw.number] = worth
        self._events.put_nowait(self._candidate(draw, worth))

    def _candidate(self, draw: Draw, worth: Worth) -> Candidate:
        drawn = self._drawn.get(draw.number)
        times_s = (self._draws[draw.number][1], self._generated_s.get(draw.number), self.elapsed_s)
        finished = drawn is not None and self._search.is_finished(drawn.text, drawn.ended)
        return candidate_of(draw, drawn, worth, times_s, finished=finished)

    async def _drop(self) -> None:
        """Withdraw what is still under way; what has settled meanwhile is kept, the rest was not needed."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, Candidate):
                self.candidates[event.number] = event
        for number, (draw, _) in self._draws.items():
            if number not in self.candidates:
                self.candidates[number] = self._candidate(draw, _NOT_NEEDED)
