"""A question in, the best answer out: a real generator's address, a real server with the demo models."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.policy import Asked, candidates, draw_questions
from demo.policy_server import PolicyServer
from steelyard import Client
from steelyard.best_of_n import (
    Answer,
    AsyncBestOfN,
    BestOfN,
    Draw,
    Drawn,
    EarlyStop,
    GeneratorFailed,
    GeneratorGone,
    NothingScored,
    Progress,
    StepBeam,
    WeightedVote,
)
from steelyard.best_of_n import Asked as Question
from steelyard.errors import ConnectionFailed, InvalidCall, InvalidPicture
from steelyard.retry import Retry
from tests.client.best_of_n.test_chat import completion
from tests.client.scripted import Seen, says, scripted
from tests.service.running import ROOT, Running, running

ONCE = Retry(max_retries=0)
BLEND = {"visualprm": 0.7, "ixc_reward": 0.3}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    models = [f"--model={name}={ROOT / 'demo' / name}" for name in BLEND]
    with running(*[word for model in models for word in model.split("=", 1)]) as server:
        yield server


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    with PolicyServer() as policy:
        yield policy


@pytest.fixture(scope="module")
def best_of_n(policy: PolicyServer, server: Running) -> Iterator[BestOfN]:
    with BestOfN(policy.url, "policy", server.url) as best_of_n:
        yield best_of_n


@pytest.fixture(scope="module")
def asked() -> Asked:
    """A question that the policy answers in more than one way."""
    return next(one for one in draw_questions("test", 0, 40) if len({c.answer for c in candidates(one, 0, 8)}) > 2)


class Listed:
    """A generator of one's own: a text for each number, or what goes wrong in its place."""

    def __init__(self, *texts: str | Exception) -> None:
        self._texts = texts

    async def draw(self, asked: Question, draw: Draw, *, one_step: bool) -> Drawn:
        text = self._texts[draw.number]
        if isinstance(text, Exception):
            raise text
        return Drawn(text, 3)


async def listed(server: Running, *texts: str | Exception, **options: object) -> Answer:
    async with AsyncBestOfN(Listed(*texts), scorer=server.url, retry=ONCE) as orchestrator:
        return await orchestrator.answer("what is the green shape?", [ROOT / "examples" / "circle.png"], len(texts))


def test_every_candidate_is_scored_as_by_the_scoring_route(best_of_n: BestOfN, server: Running, asked: Asked) -> None:
    answer = best_of_n.answer(asked.question.text, [asked.picture.path], 8, seed=0)
    texts = ["\n\n".join(chain.texts) for chain in candidates(asked, 0, 8)]
    assert [one.text for one in answer.trace.candidates] == texts
    with Client(server.url) as client:
        group = client.score_steps(asked.question.text, [asked.picture.path], texts)
    for one, result in zip(answer.trace.candidates, group.results, strict=True):
        assert one.score == pytest.approx(result.score, rel=1e-5, abs=1e-5)
        assert one.step_scores == pytest.approx(result.step_scores, rel=1e-5, abs=1e-5)
    best = max(answer.trace.candidates, key=lambda one: (one.score or 0.0, -one.number))
    assert (answer.trace.chosen, answer.text) == (best.number, best.text)


def test_a_group_that_grows_shares_its_beginning(best_of_n: BestOfN, asked: Asked) -> None:
    totals = best_of_n.answer(asked.question.text, [asked.picture.path], 8, seed=100).trace.totals
    # The picture and the question are computed once at most, and every candidate's own tokens once.
    assert totals.scored_tokens < totals.cached_tokens
    assert (totals.drawn, totals.scored, totals.left_out) == (8, 8, 0)


def test_the_same_seed_gives_the_same_answer_however_many_are_under_way(
    policy: PolicyServer, server: Running, asked: Asked
) -> None:
    early = (EarlyStop(0.9, at_once=8), EarlyStop(of=WeightedVote(), at_once=8))
    strategies = (WeightedVote(), *early, StepBeam(keep=2, propose=2))
    chosen = []
    for concurrency in (1, 8):
        with BestOfN(policy.url, "policy", server.url, concurrency=concurrency) as orchestrator:
            for strategy in strategies:
                found = orchestrator.answer(asked.question.text, [asked.picture.path], 8, strategy=strategy, seed=3)
                chosen.append((found.text, found.trace.chosen, found.trace.stopped))
    assert chosen[:4] == chosen[4:]


def test_a_beam_computes_each_step_once_and_grows_whole_chains(best_of_n: BestOfN, asked: Asked) -> None:
    answer = best_of_n.answer(asked.question.text, [asked.picture.path], strategy=StepBeam(2, 3), seed=5)
    trace = answer.trace
    assert answer.text.splitlines()[-1] == f"Answer: {answer.answer}"
    assert trace.stopped == "every kept solution has ended"
    by_number = {one.number: one for one in trace.candidates}
    for one in trace.candidates:
        assert one.parent is None or one.steps[:-1] == by_number[one.parent].steps
        assert one.step_scores is None or len(one.step_scores) == len(one.steps)
    grown = [one for one in trace.candidates if one.parent is not None]
    # A step's turn is some tens of tokens here, its solution and the picture hundreds: each call costs its step.
    assert grown
    assert all(one.scored_tokens < one.cached_tokens / 2 for one in grown)


def test_a_blend_is_made_of_all_that_have_arrived(policy: PolicyServer, server: Running, asked: Asked) -> None:
    with BestOfN(policy.url, "policy", server.url, blend=BLEND) as orchestrator, Client(server.url) as client:
        trace = orchestrator.answer(asked.question.text, [asked.picture.path], 8, seed=0).trace
        texts = [one.text for one in trace.candidates]
        ranked = client.rank(asked.question.text, [asked.picture.path], texts, blend=BLEND)
    assert [one.score for one in trace.candidates] == pytest.approx([r.score for r in ranked.results], abs=1e-3)
    assert trace.chosen == ranked.best


async def test_what_fails_is_left_out_and_told(server: Running) -> None:
    right = "I see a circle.\n\nAnswer: circle"
    answer = await listed(server, GeneratorFailed("no text"), "", right, "word " * 20_000, "Answer: triangle")
    assert [one.status for one in answer.trace.candidates] == ["not_generated", "empty", "ok", "too_long", "ok"]
    assert [one.score is None for one in answer.trace.candidates] == [True, True, False, True, False]
    assert (answer.text, answer.answer) == (right, "circle")
    assert answer.trace.totals.left_out == 3
    assert "0 not_generated: no text" in answer.trace.why_left_out()


async def test_where_nothing_has_a_score_the_reasons_are_told(server: Running) -> None:
    with pytest.raises(NothingScored, match="0 not_generated: no text; 1 empty") as raised:
        await listed(server, GeneratorFailed("no text"), "")
    assert json.loads(raised.value.trace.to_json())["chosen"] is None


async def test_a_generators_own_bug_is_raised_to_the_caller(server: Running) -> None:
    with pytest.raises(ZeroDivisionError):
        await listed(server, "Answer: x", ZeroDivisionError())


def test_an_endpoint_that_will_never_answer_ends_the_search_at_once(server: Running) -> None:
    with scripted(says(401, b"no key")) as generator, BestOfN(f"{generator.url}/v1", "m", server.url) as orchestrator:
        with pytest.raises(GeneratorGone, match="401"):
            orchestrator.answer("?", n=64)
        assert len(generator.seen) <= 9


def test_nothing_is_generated_when_nobody_could_score_it(policy: PolicyServer, server: Running) -> None:
    with scripted(says(200, completion("x"))) as generator:
        address = f"{generator.url}/v1"
        for options, error in (
            ({"scorer": "http://127.0.0.1:9"}, ConnectionFailed),
            ({"scorer": server.url, "reward_model": "other"}, InvalidCall),
        ):
            with BestOfN(address, "m", retry=ONCE, **options) as orchestrator, pytest.raises(error):  # type: ignore[arg-type]
                orchestrator.answer("?")
        with BestOfN(address, "m", server.url, reward_model="ixc_reward") as orchestrator:
            with pytest.raises(InvalidCall, match="process reward model"):
                orchestrator.answer("?", strategy=StepBeam())
            with pytest.raises(InvalidPicture, match="sha256"):
                orchestrator.answer("?", ["sha256:" + "0" * 64])
            with pytest.raises(InvalidCall, match="n: 0"):
                orchestrator.answer("?", n=0)
    assert generator.seen == []


def test_a_budget_of_seconds_takes_what_is_there(server: Running) -> None:
    held = threading.Event()

    def one_of_two(seen: Seen) -> object:
        if seen.json["seed"] == 1:
            held.wait(30)
        return says(200, completion("Answer: circle"))(seen)

    with scripted(one_of_two) as generator, BestOfN(f"{generator.url}/v1", "m", server.url) as orchestrator:  # type: ignore[arg-type]
        answer = orchestrator.answer("?", n=2, seed=0, max_seconds=3)
        held.set()
    assert answer.trace.stopped == "the time budget was spent"
    assert [one.status for one in answer.trace.candidates] == ["ok", "not_needed"]


def test_progress_is_told_and_the_trace_is_json(best_of_n: BestOfN, asked: Asked) -> None:
    seen: list[Progress] = []
    answer = best_of_n.answer(asked.question.text, [asked.picture.path], 4, seed=0, on_progress=seen.append)
    assert sorted(one.kind for one in seen) == ["generated"] * 4 + ["settled"] * 4
    assert max(one.settled for one in seen) == 4
    trace = json.loads(answer.trace.to_json())
    assert (trace["chosen"], trace["stopped"], len(trace["candidates"])) == (answer.trace.chosen, "all were drawn", 4)
    assert trace["strategy"] == "Best(extract=final_answer)"
    assert trace["reward"]["visualprm"].startswith("sha256:")


async def test_threads_are_served_inside_a_running_loop_too(best_of_n: BestOfN, asked: Asked) -> None:
    assert best_of_n.answer(asked.question.text, [asked.picture.path], 2, seed=0).score
    calls = [
        asyncio.to_thread(best_of_n.answer, asked.question.text, [asked.picture.path], 2, seed=0) for _ in range(4)
    ]
    assert len({answer.text for answer in await asyncio.gather(*calls)}) == 1


def test_the_example_runs(server: Running) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "STEELYARD_URL": server.url}
    ended = subprocess.run(
        [sys.executable, str(Path("examples") / "best_of_n.py")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for name in ("best of 8", "weighted vote", "early stop", "step beam"):
        assert f"{name}: circle" in ended.stdout
