"""The public golden cases of the second family, through the same code as `python -m tests.conformance`."""

import random
import statistics
from collections.abc import Iterable
from functools import cache

import pytest
import torch

from models.ixc_reward.frames import compose
from models.ixc_reward.layout import lay_out_frames, pad
from steelyard.schema import ScoreOutcomesRequest
from tests.conformance import ixc_reward, ixc_served
from tests.conformance.in_process import InProcess
from tests.conformance.ixc_in_process import Case, IXCRewardInProcess
from tests.conformance.ixc_requests import data_url
from tests.conformance.report import Verdict
from tests.golden import IXC_REWARD, read_lines

CASES = read_lines(IXC_REWARD / "cases.jsonl")
FULL_TILES = read_lines(IXC_REWARD / "cases_560.jsonl")


@cache
def backend(name: str) -> IXCRewardInProcess:
    return IXCRewardInProcess(IXC_REWARD / name, torch.float32, IXC_REWARD)


def differences(verdicts: Iterable[Verdict]) -> list[str]:
    found = list(verdicts)
    assert found
    return [f"{verdict.id}: {line}" for verdict in found for line in verdict.differences]


def scored_at_full_tiles(*, slow: bool) -> list[Verdict]:
    cases = [case for case in FULL_TILES if ixc_reward.is_slow(case) == slow]
    return [ixc_reward.verdict_of(case, backend("tiny-ixc-reward-560")) for case in cases]


def test_every_case_has_the_references_ids_layouts_pixels_and_scores() -> None:
    assert differences(ixc_reward.verdicts(IXC_REWARD / "cases.jsonl", None, None)) == []


def test_so_has_every_case_at_the_real_size_of_a_tile() -> None:
    assert differences(scored_at_full_tiles(slow=False)) == []


@pytest.mark.slow
def test_so_has_a_prompt_that_is_cut_at_16384_tokens() -> None:
    verdicts = scored_at_full_tiles(slow=True)
    assert len(verdicts) == 2
    assert differences(verdicts) == []


def test_the_real_tokenizer_gives_the_references_ids() -> None:
    assert differences(ixc_reward.verdicts(IXC_REWARD / "real_tokenizer_prompts.jsonl", None, None)) == []


def test_bfloat16_is_as_close_to_float32_as_the_references_own_run() -> None:
    rows = read_lines(IXC_REWARD / "bf16_autocast.jsonl")
    theirs = [abs(row["score_bf16_autocast"] - row["score_float32"]) for row in rows]
    found = list(ixc_reward.verdicts(IXC_REWARD / "bf16_autocast.jsonl", None, None))
    assert differences(found) == []
    ours = [verdict.off_float32 for verdict in found]
    assert statistics.median(ours) <= 1.25 * statistics.median(theirs)
    assert max(ours) <= 1.25 * max(theirs)


def scorable(case: Case) -> bool:
    return case["type"] == "score" and "score" in case["expected"]


@pytest.mark.parametrize(("seed", "together"), [(0, 100), (1, 7), (2, 2)])
def test_scores_do_not_depend_on_company(seed: int, together: int) -> None:
    """All cases in a random order, in batches of many sizes, with pictures or without."""
    cases = random.Random(seed).sample([case for case in CASES if scorable(case)], 91)
    verdict = Verdict("company")
    for start in range(0, len(cases), together):
        batch, tiny = cases[start : start + together], backend("tiny-ixc-reward")
        ready = [tiny.ready(case["conversation"], case["images"], case["options"]) for case in batch]
        verdict.closely("scores", tiny.score(ready), [case["expected"]["score"] for case in batch])
    assert verdict.differences == []


@pytest.mark.parametrize(("cases", "checkpoint"), [(CASES, "tiny-ixc-reward"), (FULL_TILES, "tiny-ixc-reward-560")])
def test_what_the_wire_can_say_has_the_references_scores_in_every_form(cases: list[Case], checkpoint: str) -> None:
    """Conversations, candidates, pictures in parts; what it cannot say is told, and why."""
    quick = [case for case in cases if not ixc_reward.is_slow(case)]
    found = list(ixc_served.verdicts(quick, InProcess(IXC_REWARD / checkpoint, "float32"), IXC_REWARD))
    assert differences(found) == []
    assert sum(not verdict.note for verdict in found) > len(quick) // 4


def test_a_video_stands_where_its_part_stands() -> None:
    """As the reference has it with a marker there, which no golden case of a video does."""
    tiny, served = backend("tiny-ixc-reward"), InProcess(IXC_REWARD / "tiny-ixc-reward", "float32")
    for case in (case for case in CASES if case["type"] == "video_frames"):
        question, answer = (turn["content"] for turn in case["conversation"])
        canvas = compose([tiny.open(name) for name in case["frames"]], tiny.spec.tile_size)
        pixels = pad(canvas, lay_out_frames(*canvas.size, tiny.spec.tile_size))
        marked = [{"role": "user", "content": f"<ImageHere>{question}"}, {"role": "assistant", "content": answer}]
        (expected,) = tiny.score([tiny.candidate(tiny.encode(marked, [pixels], {}), [pixels])])
        frames = [data_url(IXC_REWARD / name) for name in case["frames"]]
        parts = [{"type": "video_frames", "frames": frames}, {"type": "text", "text": question}]
        fields = {"messages": [{"role": "user", "content": parts}], "candidates": [answer]}
        (result,) = served.score_outcomes(ScoreOutcomesRequest.model_validate(fields)).results
        assert result.score == pytest.approx(expected, rel=1e-5, abs=1e-5)
