"""Any request at all is answered in time and by the schema, and leaves nothing behind.

`make check-hostile` fires 5,000 of them; HOSTILE_REQUESTS says how many.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import httpx2
import psutil
import pytest
from hypothesis import HealthCheck, given, settings

from steelyard.schema import (
    CandidateScore,
    ErrorResponse,
    OutcomeScore,
    ScoredGroup,
    ScoreOutcomesResponse,
    ScoreStepsResponse,
    StepScores,
)
from tests.service.hostile.requests import Call, calls
from tests.service.hostile.sending import answer_of, checked
from tests.service.running import Running, running

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "150"))
MIB = 2**20
# What allocators keep for later of what a few hundred calls under way at once took, and no more than that.
GROWTH_MIB = 64


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Its caches hold so little that they are full long before the memory is measured first."""
    small = ("--image-store-bytes", "--prefix-cache-bytes", "--vision-cache-bytes", "--token-cache-bytes")
    caches = [word for option in small for word in (option, str(MIB))]
    with running(*caches, "--replay-bytes", "100000", "--replay-s", "30") as server:
        yield server


@pytest.mark.timeout(3600)
def test_any_request_is_answered_by_the_schema(server: Running, api: httpx2.Client) -> None:
    statuses: Counter[int] = Counter()
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0

    def fire(count: int) -> None:
        @settings(
            max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
        )
        @given(call=calls())
        def once(call: Call) -> None:
            nonlocal slowest_s
            # The client's own limit of patience makes a hang fail here.
            response = api.post(call.path, content=call.content, headers=_accept(call))
            statuses[response.status_code] += 1
            slowest_s = max(slowest_s, response.elapsed.total_seconds())
            for result in _results(call, response):
                outcomes[result.status] += 1

        once()

    fire(REQUESTS // 3)
    before = _memory_mib(server)
    fire(REQUESTS - REQUESTS // 3)
    server.await_waiting(0)
    after = _memory_mib(server)
    print(f"\n{statuses.total()} requests, the slowest {slowest_s:.2f} s; by status {dict(sorted(statuses.items()))}")
    print(f"candidates by status {dict(sorted(outcomes.items()))}")
    print(f"resident memory after a third of them and after all, MiB: {before} → {after}")
    assert all(after[name] - before[name] < GROWTH_MIB for name in before)
    assert api.get("/health/ready").status_code == 200


def _accept(call: Call) -> dict[str, str]:
    return {"Accept": "application/x-ndjson" if call.stream else "application/json"}


def _results(call: Call, response: httpx2.Response) -> Sequence[CandidateScore]:
    """The results of an answer, after every rule that it must keep."""
    if call.stream and response.status_code == 200:
        return _streamed(call, response)
    checked(response)
    if response.status_code != 200:
        return ()
    json.loads(response.content, parse_constant=_no_number)
    answer = answer_of(response)
    _keeps_the_rules(call, answer, answer.results)
    return answer.results


def _streamed(call: Call, response: httpx2.Response) -> Sequence[CandidateScore]:
    *lines, last = response.text.splitlines()
    kind = StepScores if call.path == "/score_steps" else OutcomeScore
    results: list[CandidateScore] = [kind.model_validate_json(line) for line in lines]
    if "error" in json.loads(last, parse_constant=_no_number):
        # It was found out only after the first line.
        error = ErrorResponse.model_validate_json(last).error
        assert error.code in ("unavailable", "deadline_exceeded")
        return results
    results.sort(key=lambda result: result.index)
    _keeps_the_rules(call, ScoredGroup.model_validate_json(last), results)
    return results


def _keeps_the_rules(
    call: Call,
    group: ScoredGroup | ScoreStepsResponse | ScoreOutcomesResponse,
    results: Sequence[CandidateScore],
) -> None:
    request = json.loads(call.content)
    assert [result.index for result in results] == list(
        range(len(request.get("conversations") or request["candidates"]))
    )
    for result in results:
        assert (result.status == "ok") == (result.score is not None) == (result.retryable is None)
        assert result.score is None or math.isfinite(result.score)
        if isinstance(result, StepScores):
            rows = [result.step_scores, result.step_logits, result.step_spans]
            assert len({None if row is None else len(row) for row in rows}) == 1
            assert (rows[0] is None) == (result.score is None)
    scores = {result.index: result.score for result in results if result.score is not None}
    assert group.ranking == sorted(scores, key=lambda index: (-scores[index], index))
    assert group.best == (group.ranking[0] if group.ranking else None)
    assert group.usage.cached_tokens + group.usage.computed_tokens == group.usage.prompt_tokens


def _no_number(name: str) -> float:
    raise AssertionError(f"{name} in an answer")


def _memory_mib(server: Running) -> dict[str, int]:
    processes = {"gateway": psutil.Process(server.process.pid), "engine": server.engine()}
    return {name: process.memory_info().rss // MIB for name, process in processes.items()}
