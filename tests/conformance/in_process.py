"""Cases through the gateway's scoring and the engine's loop, with no process or socket in between."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from models.checkpoint import Checkpoint
from models.registry import identify
from models.tiling import Grid
from models.visual_prm import network
from service.batching import Budget
from service.catalogue import Catalogue
from service.encoding import read_model
from service.engine import Engine, Scorer
from service.engine_counts import EngineCounts
from service.images import ImageStore
from service.job import Delivery, EngineModel, Job
from service.metrics import Metrics
from service.queue import Intake
from service.scorers import Running, load_scorer
from service.scoring import Scoring
from service.settings import Settings
from service.step_model import StepModel
from steelyard.schema import (
    CandidateScore,
    ScoreOutcomesRequest,
    ScoreOutcomesResponse,
    ScoreRequest,
    ScoreStepsRequest,
    ScoreStepsResponse,
)

NAME = "model"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class OneTake:
    """A source that hands all its jobs over at once, so that they share batches, and then says stop."""

    def __init__(self, jobs: Sequence[Job], blobs: Mapping[str, bytes]) -> None:
        self._jobs = tuple(jobs)
        self._blobs = blobs
        self.deliveries: dict[str, list[Delivery]] = defaultdict(list)

    def take(self, *, wait: bool) -> Intake | None:
        jobs, self._jobs = self._jobs, ()
        return None if wait and not jobs else Intake(jobs, frozenset())

    def blob(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def begin(self, jobs: Sequence[str]) -> None:
        pass

    def deliver(self, delivery: Delivery) -> None:
        self.deliveries[delivery.job].append(delivery)

    def count(self, counts: EngineCounts) -> None:
        pass


class LocalQueue:
    """A queue that runs the engine right here once `together` jobs have been submitted."""

    def __init__(self, scorer: Scorer, dtype: str, batch_tokens: int) -> None:
        self.together = 1
        self._scorer = scorer
        self._dtype = dtype
        self._budget = Budget(tokens=batch_tokens, tiles=10_000)
        self._jobs: list[Job] = []
        self._blobs: dict[str, bytes] = {}
        self._source: asyncio.Future[OneTake] | None = None

    def models(self) -> Sequence[EngineModel]:
        return [EngineModel(NAME, "sha256:here", self._dtype)]

    async def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        self._jobs.append(job)
        self._blobs |= blobs
        if self._source is None:
            self._source = asyncio.get_running_loop().create_future()
        done = self._source
        if len(self._jobs) == self.together:
            done.set_result(self._run())
        for delivery in (await done).deliveries[job.id]:
            yield delivery

    def _run(self) -> OneTake:
        source = OneTake(self._jobs, self._blobs)
        self._jobs, self._blobs, self._source = [], {}, None
        Engine({NAME: self._scorer}, source, self._budget).run()
        return source


class InProcess:
    """One checkpoint of either family, scored in this process."""

    def __init__(
        self,
        checkpoint: Path,
        dtype: str,
        batch_tokens: int = 16_384,
        cache_bytes: int = 2**26,
        *,
        batch_invariant: bool = False,
    ) -> None:
        self.gateway_model = read_model(NAME, Checkpoint(checkpoint), None)
        running = Running(torch.device("cpu"), _DTYPES[dtype], cache_bytes, batch_invariant)
        self.scorer = load_scorer(identify(checkpoint), checkpoint, running, lambda _done, _total: None)
        self._queue = LocalQueue(self.scorer, dtype, batch_tokens)
        self._images = ImageStore(budget_bytes=2**30, ttl_s=3600, max_image_bytes=2**26, max_pixels=10**8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def score(self, request: ScoreStepsRequest) -> ScoreStepsResponse:
        """Raises ServiceError where the server would answer with one."""
        return self.score_together([request])[0]

    def score_together(self, requests: Sequence[ScoreStepsRequest]) -> list[ScoreStepsResponse]:
        """In the same batches, as far as the token budget allows."""
        return [ScoreStepsResponse.model_validate(answer) for answer in asyncio.run(self._score(requests))]

    def score_outcomes(self, request: ScoreOutcomesRequest) -> ScoreOutcomesResponse:
        """Raises ServiceError where the server would answer with one."""
        (answer,) = asyncio.run(self._score([request]))
        return ScoreOutcomesResponse.model_validate(answer)

    def shuffled(self, requests: Sequence[ScoreStepsRequest], seed: int) -> list[ScoreStepsResponse]:
        """All of them together in a random order, the answers in the order given."""
        order = random.Random(seed).sample(range(len(requests)), len(requests))
        answers = self.score_together([requests[index] for index in order])
        return [answers[order.index(index)] for index in range(len(requests))]

    def oracle(self, request: ScoreRequest) -> list[CandidateScore]:
        """The same by the plain path: one candidate at a time, nothing packed or shared."""
        return asyncio.run(self._oracle(request))

    def store(self, content: bytes) -> str:
        """Keep a picture under its hash, as `PUT /images` does."""
        return self._images.put(content).id

    async def _score(self, requests: Sequence[ScoreRequest]) -> list[dict[str, object]]:
        self._queue.together = len(requests)
        scoring = self._scoring()
        try:
            return list(await asyncio.gather(*(_answer(scoring, request) for request in requests)))
        finally:
            scoring.close()

    async def _oracle(self, request: ScoreRequest) -> list[CandidateScore]:
        self._queue.together = 1
        scoring = self._scoring()
        try:
            return await scoring.oracle(request)
        finally:
            scoring.close()

    def _scoring(self) -> Scoring:
        catalogue = Catalogue({NAME: self.gateway_model}, self._queue.models())
        return Scoring(Settings(), self._queue, self._images, Metrics(), catalogue)


class VisualPRMInProcess(InProcess):
    """A VisualPRM checkpoint, whose prompts, tiles and features can be looked at, too."""

    def __init__(
        self,
        checkpoint: Path,
        dtype: str,
        batch_tokens: int = 16_384,
        cache_bytes: int = 2**26,
        *,
        batch_invariant: bool = False,
    ) -> None:
        super().__init__(checkpoint, dtype, batch_tokens, cache_bytes, batch_invariant=batch_invariant)
        assert isinstance(self.gateway_model, StepModel)
        self._step_model = self.gateway_model
        self.model = network.load(checkpoint, _DTYPES[dtype], torch.device("cpu"))

    def prompt(self, request: ScoreStepsRequest) -> tuple[list[int], list[int]]:
        """The first candidate's token ids and read-outs."""
        group = self._step_model.ready(request, self._images)
        job = Job("", NAME, 0, 0.0, None, group.prefix, group.candidates)
        return job.ids(0).tolist(), job.readouts(0).tolist()

    def grids(self, request: ScoreStepsRequest) -> list[Grid]:
        found = self._images.resolve(request.images)
        return [self._step_model.grid(found[name], request.max_tiles) for name in request.images]


async def _answer(scoring: Scoring, request: ScoreRequest) -> dict[str, object]:
    flight = scoring.open(request, "conformance")
    with flight.attended():
        group = await flight.group()
    return {**dict(group), "results": sorted(flight.results, key=lambda result: result.index)}
