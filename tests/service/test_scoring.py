"""Scoring in front of a queue that the test drives."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np
import pytest

from models.checkpoint import Checkpoint
from service import scoring as scoring_module
from service.catalogue import Catalogue
from service.encoding import read_model
from service.errors import DeadlineExceeded, InvalidRequest, UnknownModel
from service.gateway_model import GatewayModel
from service.health import Canaries, Unhealthy
from service.images import ImageStore
from service.job import Delivery, EngineModel, Job, Outcome
from service.metrics import Metrics
from service.scoring import Scoring
from service.settings import Settings
from steelyard.schema import CandidateScore, ScoredGroup, ScoreStepsRequest
from tests.service.running import DEMO


class Script:
    """A queue that answers each job by a list of deliveries, then never again."""

    def __init__(self, *margins: float, answered: int | None = None) -> None:
        self._margins = margins
        self._answered = answered
        self.jobs: list[Job] = []

    def models(self) -> Sequence[EngineModel]:
        return [EngineModel(name, "sha256:here", "float32") for name in ("a", "b")]

    async def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        self.jobs.append(job)
        margin = self._margins[min(len(self.jobs), len(self._margins)) - 1]
        for index in range(len(job.candidates))[: self._answered]:
            logits = np.array([[margin, 0.0]] * len(job.readouts(index)), np.float32)
            outcome = Outcome(index, "ok", logits.tobytes())
            yield Delivery(job.id, (outcome,), computed_tokens=job.tokens(index), queue_ms=5 + index, forward_ms=2)
        if self._answered is not None:
            await asyncio.Event().wait()


def scoring(queue: Script, *names: str, max_tokens: int | None = None) -> Scoring:
    images = ImageStore(budget_bytes=10**6, ttl_s=60, max_image_bytes=10**6, max_pixels=10**6)
    models: dict[str, GatewayModel] = {name: read_model(name, Checkpoint(DEMO), max_tokens) for name in names or ("a",)}
    return Scoring(Settings(), queue, images, Metrics(), Catalogue(models, queue.models()))


async def answer(made: Scoring, request: ScoreStepsRequest) -> tuple[ScoredGroup, list[CandidateScore]]:
    flight = made.open(request, "me")
    with flight.attended():
        group = await flight.group()
    return group, sorted(flight.results, key=lambda result: result.index)


def request(*candidates: str, **fields: object) -> ScoreStepsRequest:
    return ScoreStepsRequest.model_validate({"question": "?", "candidates": candidates or ("x", "y"), **fields})


async def test_the_wait_is_that_for_the_first_forward_and_the_forwards_add_up() -> None:
    group, _ = await answer(scoring(Script(0.0)), request("x", "y", "z"))
    assert (group.timings_ms.queue, group.timings_ms.forward) == (5, 6)


async def test_usage_adds_up_and_equal_candidates_cost_once() -> None:
    group, _ = await answer(scoring(Script(0.0)), request("x", "x", "y"))
    usage = group.usage
    assert usage.prompt_tokens == usage.computed_tokens + usage.cached_tokens
    assert 0 < usage.cached_tokens < usage.computed_tokens


async def test_a_job_tells_which_prompts_outgrow_the_models_positions_and_share_nothing() -> None:
    queue = Script(0.0)
    await answer(scoring(queue), request("short", "word " * 1024))
    (job,) = queue.jobs
    assert [job.tokens(index) > 1024 for index in (0, 1)] == [False, True]
    assert [job.shares(index) for index in (0, 1)] == [True, False]


async def test_an_engine_that_never_answers_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "GRACE_S", 0.0)
    with pytest.raises(DeadlineExceeded):
        await answer(scoring(Script(0.0, answered=0)), request(deadline_ms=50))


async def test_a_group_that_is_never_done_encoding_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "GRACE_S", 0.0)
    queue, busy = Script(0.0), threading.Event()
    made = scoring(queue)
    threads = [made._pool.submit(busy.wait, 60) for _ in range(Settings().encode_threads)]
    with pytest.raises(DeadlineExceeded, match="encoded"):
        await answer(made, request(deadline_ms=50))
    busy.set()
    assert all(thread.result() for thread in threads)
    assert not queue.jobs


async def test_scores_that_came_before_the_deadline_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "GRACE_S", 0.0)
    group, results = await answer(scoring(Script(0.0, answered=1)), request("x", "y", "x", deadline_ms=50))
    assert [result.status for result in results] == ["ok", "expired", "ok"]
    assert (results[1].score, results[1].retryable) == (None, True)
    assert group.ranking == [0, 2]


async def test_an_empty_name_is_no_model() -> None:
    made = scoring(Script(0.0), "a", "b")
    with pytest.raises(UnknownModel):
        made.open(request(model=""), "me")
    with pytest.raises(InvalidRequest, match="a, b"):
        made.open(request(), "me")


async def test_a_hopeless_number_of_steps_is_too_long_before_it_is_tokenised() -> None:
    queue = Script(0.0)
    _, results = await answer(scoring(queue), request("\n\n".join("x" * 9_000), "y"))
    assert [result.status for result in results] == ["too_long", "ok"]
    assert len(queue.jobs[0].candidates) == 1


async def test_a_canary_is_no_caller_and_knows_no_limit_of_theirs() -> None:
    queue = Script(0.25)
    await Canaries(scoring(queue, max_tokens=1)).learn()
    assert [job.plain for job in queue.jobs] == [True, False]


async def test_a_canary_that_comes_back_changed_is_unhealthy() -> None:
    with pytest.raises(Unhealthy, match=r"a: the canary's score is 0\.7"):
        await Canaries(scoring(Script(0.25, 1.0))).learn()
