"""Scores of samples, from threads or from tasks, in as few calls as their groups allow."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from concurrent.futures import wait
from typing import Self, cast

from steelyard.client import AsyncClient, Client
from steelyard.errors import OtherWeights, SteelyardError
from steelyard.retry import Retry
from steelyard.trainers.connections import Connections, Settings
from steelyard.trainers.group_scoring import Answer, Ask, Pause, Placed, plan
from steelyard.trainers.grouping import Group, gather
from steelyard.trainers.options import Options
from steelyard.trainers.samples import Sample, SampleScore

MAX_CONCURRENCY = 32
_logger = logging.getLogger(__name__)


class Scorer:
    """One reward model for the samples of a run; threads and tasks may share it, and it may be pickled or forked.

    Arguments are those of the clients; connections open where they are first needed, `max_concurrency` at most.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        options: Options | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.options = options or Options()
        self._connections = Connections(Settings(url, api_key, max_concurrency, retry, timeout_s))
        # Under one name, that of the weights of the first answer.
        self._weights: dict[str, str] = {}

    def score(self, samples: Sequence[Sample]) -> list[SampleScore]:
        """One result a sample, in order; what could not be scored says why.

        Raises what is wrong for every sample alike: InvalidCall for questions and pictures that do not fit together or
        the kind of model, InvalidKey, NotAllowed, UnknownModel, UnknownRoute, OtherWeights.
        """
        groups = gather(samples)
        threaded = self._connections.for_threads()
        if len(groups) < 2:
            return _in_order([self._score_group(threaded.client, group) for group in groups])
        calls = [threaded.pool.submit(self._score_group, threaded.client, group) for group in groups]
        try:
            return _in_order([call.result() for call in calls])
        finally:
            for call in calls:
                call.cancel()
            wait(calls)

    async def ascore(self, samples: Sequence[Sample]) -> list[SampleScore]:
        """The same for the tasks of an event loop."""
        groups = await asyncio.to_thread(gather, samples)
        client = self._connections.for_tasks()
        calls = [asyncio.ensure_future(self._ascore_group(client, group)) for group in groups]
        try:
            return _in_order(await asyncio.gather(*calls))
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def close(self) -> None:
        """Close this process's connections for threads; the next call opens others."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the running loop's connections; the next call opens others."""
        await self._connections.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _score_group(self, client: Client, group: Group) -> Placed:
        steps = plan(group, self.options, random.random)
        reply: Answer | SteelyardError | None = None
        try:
            while True:
                effect, reply = steps.send(reply), None
                if isinstance(effect, Pause):
                    time.sleep(effect.seconds)
                else:
                    reply = self._ask(client, effect)
        except StopIteration as end:
            return cast(Placed, end.value)

    async def _ascore_group(self, client: AsyncClient, group: Group) -> Placed:
        steps = plan(group, self.options, random.random)
        reply: Answer | SteelyardError | None = None
        try:
            while True:
                effect, reply = steps.send(reply), None
                if isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                else:
                    reply = await self._aask(client, effect)
        except StopIteration as end:
            return cast(Placed, end.value)

    def _ask(self, client: Client, ask: Ask) -> Answer | SteelyardError:
        try:
            return self._checked(cast(Answer, ask.call(client)))
        except SteelyardError as error:
            return error

    async def _aask(self, client: AsyncClient, ask: Ask) -> Answer | SteelyardError:
        try:
            return self._checked(await cast(Awaitable[Answer], ask.call(client)))
        except SteelyardError as error:
            return error

    def _checked(self, answer: Answer) -> Answer:
        """Raises OtherWeights when others have scored before."""
        weights = answer.provenance.weights
        first = self._weights.setdefault("first", weights)
        if self.options.same_weights and first != weights:
            raise OtherWeights(
                f"{answer.model} was scored by {first} and is now by {weights}: one run, one reward model"
            )
        return answer


def _in_order(groups: Sequence[Placed]) -> list[SampleScore]:
    """By the samples' places, with a word in the log on those without a score."""
    placed = {place: score for group in groups for place, score in group.items()}
    unscored = [score for score in placed.values() if score.score is None]
    if unscored:
        counts = Counter(score.status for score in unscored)
        _logger.warning("%d of %d samples have no score: %s", len(unscored), len(placed), dict(counts))
    return [placed[place] for place in range(len(placed))]
