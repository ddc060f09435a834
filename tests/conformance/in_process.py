"""Cases through the gateway's scoring and the engine's loop, with no process or socket in between."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch

from models.checkpoint import Checkpoint
from models.tiling import Grid
from models.visual_prm import network
from service.batching import Budget
from service.encoding import read_model, ready_group
from service.engine import Engine
from service.engine_process import VisualPRMScorer
from service.images import ImageStore
from service.job import Delivery, EngineModel, Job
from service.metrics import Metrics
from service.queue import Intake
from service.scoring import Scoring
from service.settings import Settings
from steelyard.schema import ScoreStepsRequest, ScoreStepsResponse, StepScores

NAME = "visualprm"
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


class LocalQueue:
    """A queue that runs the engine right here once `together` jobs have been submitted."""

    def __init__(self, model: network.VisualPRM, dtype: str, batch_tokens: int) -> None:
        self.together = 1
        self._scorer = VisualPRMScorer(model)
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
    """One checkpoint, scored in this process."""

    def __init__(self, checkpoint: Path, dtype: str, batch_tokens: int = 16_384) -> None:
        self.step_model = read_model(NAME, Checkpoint(checkpoint), None)
        self.model = network.load(checkpoint, _DTYPES[dtype], torch.device("cpu"))
        self._queue = LocalQueue(self.model, dtype, batch_tokens)
        self._images = ImageStore(budget_bytes=2**30, ttl_s=3600, max_image_bytes=2**26, max_pixels=10**8)

    def __enter__(self) -> "InProcess":
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
        return asyncio.run(self._score(requests))

    def shuffled(self, requests: Sequence[ScoreStepsRequest], seed: int) -> list[ScoreStepsResponse]:
        """All of them together in a random order, the answers in the order given."""
        order = random.Random(seed).sample(range(len(requests)), len(requests))
        answers = self.score_together([requests[index] for index in order])
        return [answers[order.index(index)] for index in range(len(requests))]

    def oracle(self, request: ScoreStepsRequest) -> list[StepScores]:
        """The same by the plain path: one candidate at a time, nothing packed or shared."""
        return asyncio.run(self._oracle(request))

    def store(self, content: bytes) -> None:
        """Keep a picture under its hash, as `PUT /images` does."""
        self._images.put(content)

    def prompt(self, request: ScoreStepsRequest) -> tuple[list[int], list[int]]:
        """The first candidate's token ids and read-outs."""
        group = ready_group(self.step_model, request, self._images)
        job = Job("", NAME, 0, 0.0, None, group.prefix, group.candidates)
        return job.ids(0).tolist(), job.readouts(0).tolist()

    def grids(self, request: ScoreStepsRequest) -> list[Grid]:
        return [self.step_model.grid(image, request.max_tiles) for image in self._images.resolve(request.images)]

    async def _score(self, requests: Sequence[ScoreStepsRequest]) -> list[ScoreStepsResponse]:
        self._queue.together = len(requests)
        scoring = self._scoring()
        try:
            return list(await asyncio.gather(*(_answer(scoring, request) for request in requests)))
        finally:
            scoring.close()

    async def _oracle(self, request: ScoreStepsRequest) -> list[StepScores]:
        self._queue.together = 1
        scoring = self._scoring()
        try:
            return await scoring.oracle(request)
        finally:
            scoring.close()

    def _scoring(self) -> Scoring:
        scoring = Scoring(Settings(), self._queue, self._images, Metrics())
        scoring.serve({NAME: self.step_model}, self._queue.models())
        return scoring


async def _answer(scoring: Scoring, request: ScoreStepsRequest) -> ScoreStepsResponse:
    flight = scoring.open(request, "conformance")
    with flight.attended():
        group = await flight.group()
    results = sorted(flight.results, key=lambda result: result.index)
    return ScoreStepsResponse(**dict(group), results=results)
