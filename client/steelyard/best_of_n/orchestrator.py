"""Best-of-N as a call: a question in, the best of many answers out, for tasks and for threads."""

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from steelyard.best_of_n.beam import Beam
from steelyard.best_of_n.candidates import Candidate
from steelyard.best_of_n.chat import ChatEndpoint, Generator
from steelyard.best_of_n.chat_format import Asked, Decoding
from steelyard.best_of_n.failures import NothingScored
from steelyard.best_of_n.portal import Portal
from steelyard.best_of_n.running import OnProgress, Running
from steelyard.best_of_n.sampling import Sampling
from steelyard.best_of_n.scorer import Scorer, Scoring
from steelyard.best_of_n.search import Limits, Reward, Search
from steelyard.best_of_n.strategies import Best, StepBeam, Strategy, described
from steelyard.best_of_n.trace import Trace, totals_of
from steelyard.blending import Normalize
from steelyard.client import AsyncClient
from steelyard.errors import InvalidCall, InvalidPicture, TimedOut
from steelyard.pictures import Picture, PictureLike, check_list, load
from steelyard.retry import Retry
from steelyard.schema import Aggregate, ControlTokens

N = 8
_LATE = "it had its score when the search had stopped"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """The text that was taken, the answer read from it, its score, and all that led there."""

    text: str
    answer: str | None
    score: float
    trace: Trace

    def __str__(self) -> str:
        return self.text


class _Orchestrator:
    """Best-of-N as both classes have it.

    `generator` is an OpenAI-compatible address up to and with `/v1` that serves `model`, or a Generator of your own;
    its key is `generator_key` or OPENAI_API_KEY. `scorer` is a Steelyard server (by default STEELYARD_URL), which
    scores by `reward_model`, by the only one of steps, or by a `blend` of several. `concurrency` generations are under
    way at a time. Raises InvalidCall.
    """

    def __init__(
        self,
        generator: str | Generator,
        model: str = "",
        scorer: str | None = None,
        *,
        generator_key: str | None = None,
        api_key: str | None = None,
        reward_model: str | None = None,
        blend: Mapping[str, float] | None = None,
        normalize: Normalize = "zscore",
        aggregate: Aggregate = "mean",
        control_tokens: ControlTokens = "parse",
        max_tiles: int | None = None,
        decoding: Decoding | None = None,
        concurrency: int = 8,
        retry: Retry | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        if reward_model is not None and blend is not None:
            raise InvalidCall("reward_model and blend: one or the other")
        key = os.environ.get("OPENAI_API_KEY") if generator_key is None else generator_key
        self._endpoint: ChatEndpoint | None = None
        if isinstance(generator, str):
            endpoint = ChatEndpoint(generator, model, api_key=key, decoding=decoding, retry=retry, timeout_s=timeout_s)
            self._endpoint = generator = endpoint
        self._generator: Generator = generator
        self._client = AsyncClient(scorer, api_key=api_key, retry=retry)
        self._scoring = Scoring(reward_model, blend, normalize, aggregate, control_tokens, max_tiles)
        self._concurrency = concurrency

    async def _choose(
        self,
        question: str,
        images: Sequence[PictureLike] = (),
        n: int = N,
        *,
        strategy: Strategy | None = None,
        seed: int | None = None,
        max_total_tokens: int | None = None,
        max_seconds: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Answer:
        """The best of `n` answers (of a StepBeam, of as many as it says), in which `images` are seen.

        With a `seed`, candidate i is drawn with seed + i; the same texts then give the same choice. Raises
        NothingScored when no candidate has a score, GeneratorGone, and what the scorer raises for every call alike.
        """
        asked = Asked(question, await asyncio.to_thread(_load, images))
        scorer = Scorer(self._client, self._scoring)
        try:
            async with asyncio.timeout(max_seconds):
                reward = await scorer.find()
        except TimeoutError:
            raise TimedOut(f"the scorer gave no answer within the {max_seconds} s of the search") from None
        strategy = strategy or Best()
        limits = Limits(self._concurrency, max_total_tokens, max_seconds, seed)
        search = _search(n, strategy, limits, reward)
        stepwise = isinstance(strategy, StepBeam)
        running = Running(search, asked, self._generator, scorer, stepwise=stepwise, on_progress=on_progress)
        candidates = await running.run(max_seconds)
        return _answer(asked, strategy, seed, scorer, search, candidates, running.elapsed_s)

    async def _close(self) -> None:
        await self._client.aclose()
        if self._endpoint is not None:
            await self._endpoint.aclose()


def _blocking(
    call: Callable[Concatenate[_Orchestrator, Parameters], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate["BestOfN", Parameters], Result]:
    """The coroutine as a method that returns its result."""

    @functools.wraps(call)
    def method(self: "BestOfN", /, *args: Parameters.args, **options: Parameters.kwargs) -> Result:
        return self._portal.run(call(self, *args, **options))

    return method


class AsyncBestOfN(_Orchestrator):
    """Best-of-N for the tasks of one event loop; close it with `aclose`, or use it in an `async with`."""

    answer = _Orchestrator._choose

    async def aclose(self) -> None:
        """Close its connections."""
        await self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class BestOfN(_Orchestrator):
    """The same for threads, which may share it; close it, or use it in a `with`.

    `on_progress` is called on a thread of its own.
    """

    @functools.cached_property
    def _portal(self) -> Portal:
        return Portal()

    answer = _blocking(_Orchestrator._choose)

    def close(self) -> None:
        """Close its connections; nothing may be under way."""
        self._portal.run(self._close())
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _load(images: Sequence[PictureLike]) -> tuple[Picture, ...]:
    """Their bytes: the generator is sent them, too. Raises InvalidPicture."""
    check_list(images)
    loaded = [load(image) for image in images]
    for image in loaded:
        if isinstance(image, str):
            raise InvalidPicture(f"{image} is an id: the generator needs the picture itself")
    return tuple(image for image in loaded if isinstance(image, Picture))


def _search(n: int, strategy: Strategy, limits: Limits, reward: Reward) -> Search:
    if isinstance(strategy, StepBeam):
        return Beam(strategy, limits, reward)
    return Sampling(n, strategy, limits, reward)


def _answer(
    asked: Asked,
    strategy: Strategy,
    seed: int | None,
    scorer: Scorer,
    search: Search,
    candidates: Sequence[Candidate],
    seconds: float,
) -> Answer:
    """Raises NothingScored."""
    choice = search.choose()
    assert search.stopped is not None
    counted = {candidate.number: candidate for candidate in search.counted()}
    told = [counted.get(candidate.number, _late(candidate)) for candidate in candidates]
    trace = Trace(
        question=asked.question,
        pictures=tuple(picture.id for picture in asked.pictures),
        strategy=described(strategy),
        seed=seed,
        reward={provenance.model: provenance.weights for provenance in scorer.provenance},
        stopped=search.stopped,
        chosen=None if choice is None else choice.candidate.number,
        answer=None if choice is None else choice.answer,
        score=None if choice is None else choice.candidate.score,
        votes={} if choice is None else choice.votes,
        counted=tuple(counted),
        candidates=tuple(told),
        totals=totals_of(told, seconds),
    )
    if choice is None or choice.candidate.score is None:
        raise NothingScored(f"none of {len(told)} candidates has a score: {trace.why_left_out()}", trace)
    return Answer(choice.candidate.text, choice.answer, choice.candidate.score, trace)


def _late(candidate: Candidate) -> Candidate:
    """As one that was of no account: only those that count have a score."""
    if candidate.status != "ok":
        return candidate
    return replace(candidate, status="not_needed", detail=_LATE, score=None)
