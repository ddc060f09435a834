"""The baselines give the oracle's numbers; the workloads hold as many tokens as they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.baselines import BASELINES, padded, soft, soft_sample, soft_v2
from benchmarks.workloads import FULL, SHAPES, STEP_END, Shape, Workload, build_workload, random_model
from models.candidate import Candidate
from models.readout import read_out_plain

SPEC = replace(FULL, vocab_size=300, hidden_size=64, intermediate_size=96, layers=3, heads=4, kv_heads=2)
MODEL = random_model(SPEC, torch.float32, seed=3)


def tiny(shape: Shape) -> Shape:
    few = replace(shape, candidates=min(shape.candidates, 4), groups=min(shape.groups, 2))
    return replace(few, steps=3, step_tokens=5, opening=4, picture=9, question=6)


TINY = {name: build_workload(name, tiny(shape), SPEC, torch.float32) for name, shape in SHAPES.items()}
# As if no two candidates of a group had the same number of steps.
RAGGED = Workload("ragged", tuple(tuple(reversed(group)) for group in TINY["W3"].groups) + TINY["W1"].groups)


@pytest.mark.parametrize("workload", [*TINY.values(), RAGGED], ids=lambda workload: workload.name)
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_gives_the_oracle_s_logits(name: str, workload: Workload) -> None:
    found = BASELINES[name](MODEL, workload)
    assert [logits.shape for logits in found] == [(len(c.readouts), 2) for c in workload.candidates]
    for logits, candidate in zip(found, workload.candidates, strict=True):
        close(logits, candidate)


def test_a_padded_batch_holds_candidates_of_any_length() -> None:
    candidates = RAGGED.candidates
    assert len({len(candidate.ids) for candidate in candidates}) == 3
    for logits, candidate in zip(padded(MODEL, RAGGED, at_once=len(candidates)), candidates, strict=True):
        close(logits, candidate)


def test_whole_prompts_and_prefixes_have_rotary_bases_of_their_own() -> None:
    """Past the limit the reference's two ways differ: each sequence's length sets its base."""
    short = replace(
        MODEL, decoder=replace(MODEL.decoder, spec=replace(SPEC, rope=replace(SPEC.rope, max_positions=26)))
    )
    workload = TINY["W1"]
    assert [len(c.ids) for c in workload.candidates] == [34] * 4
    whole, prefixes = soft_v2(short, workload), soft(short, workload)
    for candidate, one, other in zip(workload.candidates, whole, prefixes, strict=True):
        expected = read_out_plain(short.decoder, short.labels, candidate).numpy()
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(other[-1], expected[-1], rtol=1e-5, atol=1e-5)
        assert np.abs(other[0] - expected[0]).max() > 1e-4
    with pytest.raises(AssertionError, match="rotary base"):
        padded(short, workload)


def test_a_sample_of_calls_scales_to_all_of_them() -> None:
    sample, factor = soft_sample(TINY["W1"])
    assert [(len(c.ids), c.readouts.tolist()) for c in sample.candidates] == [(24, [23]), (34, [33])]
    assert factor * sample.naive_tokens == TINY["W1"].call_tokens
    for logits, candidate in zip(soft(MODEL, sample), sample.candidates, strict=True):
        close(logits, candidate)


def test_bfloat16_is_near_float32() -> None:
    narrow = random_model(SPEC, torch.bfloat16, seed=3)
    workload = build_workload("W1", tiny(SHAPES["W1"]), SPEC, torch.bfloat16)
    expected = soft_v2(MODEL, TINY["W1"])
    for baseline in BASELINES.values():
        for logits, one in zip(baseline(narrow, workload), expected, strict=True):
            np.testing.assert_allclose(logits, one, atol=0.1)


@pytest.mark.parametrize(
    ("name", "naive", "calls", "tree"),
    [
        ("W1", 8 * 1444, 8 * 8 * 1304, 1124 + 8 * 320),
        ("W3", 8 * 1304, 1124 * 36 + 40 * 120, 1444),
        ("W4", 32 * 8 * 1444, 32 * 8 * 8 * 1304, 50 + 32 * (1074 + 8 * 320)),
        ("W5", 64 * 1444, 64 * 8 * 1304, 1124 + 64 * 320),
        ("W6", 16 * 3928, 16 * 10 * (3428 + 275), 3428 + 16 * 500),
    ],
)
def test_workloads_hold_the_issue_s_tokens(name: str, naive: int, calls: int, tree: int) -> None:
    spec = replace(FULL, hidden_size=2, heads=1, kv_heads=1)
    workload = build_workload(name, SHAPES[name], spec, torch.float32)
    assert (workload.naive_tokens, workload.call_tokens, workload.tree_tokens) == (naive, calls, tree)


def test_a_read_out_is_the_last_token_of_each_step_and_nothing_follows() -> None:
    candidate = TINY["W1"].candidates[0]
    assert np.flatnonzero(candidate.ids == STEP_END).tolist() == candidate.readouts.tolist() == [23, 28, 33]
    assert len(candidate.ids) == 34


def test_a_seed_gives_the_same_workload_and_another_gives_another() -> None:
    one = TINY["W1"]
    again, other = (build_workload("W1", tiny(SHAPES["W1"]), SPEC, torch.float32, seed) for seed in (0, 1))
    assert all((a.ids == b.ids).all() for a, b in zip(one.candidates, again.candidates, strict=True))
    assert any((a.ids != b.ids).any() for a, b in zip(one.candidates, other.candidates, strict=True))
    assert len({candidate.ids.tobytes() for candidate in one.candidates}) == len(one.candidates)


def test_the_full_model_has_the_issue_s_parameters() -> None:
    per_layer = 1024 * (2048 + 1024 + 3 * 4096) + 2 * 1024
    assert 2 * FULL.vocab_size * 1024 + FULL.layers * per_layer + 1024 == pytest.approx(441e6, rel=1e-3)
    labels = MODEL.labels
    assert torch.equal(labels, MODEL.head[[1, 2]])
    assert [len(MODEL.decoder.layers), *labels.shape] == [3, 2, 64]


def close(found: np.ndarray[tuple[int, ...], np.dtype[np.float32]], candidate: Candidate) -> None:
    with torch.inference_mode():
        expected = read_out_plain(MODEL.decoder, MODEL.labels, candidate).numpy()
    np.testing.assert_array_less(np.abs(found - expected), 1e-5 * (1 + np.abs(expected)))
