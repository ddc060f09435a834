"""Golden cases of both families whatever the prefix cache holds: nothing yet, all of it, or a handful of tokens."""

from collections.abc import Sequence

import pytest

from tests.conformance import ixc_reward, ixc_served, visualprm
from tests.conformance.in_process import InProcess, VisualPRMInProcess
from tests.conformance.ixc_requests import Case
from tests.conformance.report import Verdict
from tests.golden import IXC_REWARD, VISUAL_PRM, read_lines

# What one token of the tiny checkpoints fills: keys and values, 3 layers, 2 heads of 16 numbers of 4 bytes; and notes.
TOKEN_BYTES = 2 * 3 * 2 * 16 * 4 + 208
# The shortest prompt is longer than a handful; several prompts are not held together by a few.
ROOMY, FEW, HANDFUL, NONE = 2**26, 300 * TOKEN_BYTES, 12 * TOKEN_BYTES, 0


def differences(verdicts: Sequence[Verdict]) -> list[str]:
    assert verdicts
    return [f"{verdict.id}: {line}" for verdict in verdicts for line in verdict.differences]


def some(cases: Sequence[Case]) -> Sequence[Case]:
    """Every fifth, and the groups."""
    return [case for index, case in enumerate(cases) if index % 5 == 0 or case["type"] in ("bon", "compare")]


def steps(backend: VisualPRMInProcess, cases: Sequence[Case]) -> list[str]:
    return differences([visualprm.verdict_of(case, backend, VISUAL_PRM) for case in cases])


def outcomes(backend: InProcess, cases: Sequence[Case]) -> list[str]:
    return differences(list(ixc_served.verdicts(cases, backend, IXC_REWARD)))


def check_steps(cases: Sequence[Case], cache_bytes: int, *, batch_invariant: bool = False) -> None:
    backend = VisualPRMInProcess(
        VISUAL_PRM / "tiny-visualprm", "float32", cache_bytes=cache_bytes, batch_invariant=batch_invariant
    )
    assert steps(backend, cases) == []
    counts = backend.scorer.counts
    assert steps(backend, cases) == []
    again = backend.scorer.counts
    assert again.capacity == cache_bytes // TOKEN_BYTES
    if cache_bytes == FEW:
        assert again.evicted > counts.evicted > 0
    if cache_bytes == ROOMY:
        # All but the prompts past the model's positions, which are not looked up.
        assert again.hit - counts.hit == again.looked_up - counts.looked_up


def check_outcomes(cases: Sequence[Case], cache_bytes: int, *, batch_invariant: bool = False) -> None:
    backend = InProcess(
        IXC_REWARD / "tiny-ixc-reward", "float32", cache_bytes=cache_bytes, batch_invariant=batch_invariant
    )
    assert outcomes(backend, cases) == []
    counts = backend.scorer.counts
    assert outcomes(backend, cases) == []
    again = backend.scorer.counts
    if cache_bytes == FEW:
        assert again.evicted > counts.evicted > 0
    if cache_bytes == ROOMY:
        assert again.hit - counts.hit == again.looked_up - counts.looked_up


STEPS = read_lines(VISUAL_PRM / "cases.jsonl")
OUTCOMES = [case for case in read_lines(IXC_REWARD / "cases.jsonl") if not ixc_reward.is_slow(case)]
CACHES = pytest.mark.parametrize("cache_bytes", [ROOMY, FEW, HANDFUL, NONE], ids=["roomy", "few", "handful", "none"])


@CACHES
def test_steps_have_the_references_scores_cold_warm_and_thrashing(cache_bytes: int) -> None:
    check_steps(some(STEPS), cache_bytes)


@CACHES
def test_outcomes_have_the_references_scores_cold_warm_and_thrashing(cache_bytes: int) -> None:
    check_outcomes(some(OUTCOMES), cache_bytes)


def test_so_they_have_in_the_batch_invariant_mode() -> None:
    check_steps(some(STEPS), FEW, batch_invariant=True)
    check_outcomes(some(OUTCOMES), FEW, batch_invariant=True)


@pytest.mark.slow
@CACHES
def test_so_have_all_cases_of_steps(cache_bytes: int) -> None:
    check_steps(STEPS, cache_bytes)


@pytest.mark.slow
@CACHES
def test_so_have_all_cases_of_outcomes(cache_bytes: int) -> None:
    check_outcomes(OUTCOMES, cache_bytes)
