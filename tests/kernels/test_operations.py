"""The small operations against what they stand for."""

import pytest
import torch
from torch.nn import functional

from kernels.rms_norm import rms_norm, rms_norm_reference
from kernels.rotary import Turned, rotary, rotary_reference
from kernels.step_scores import step_scores, step_scores_reference
from kernels.swiglu import swiglu, swiglu_reference

ROWS = [1, 7, 63, 100]


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", ROWS)
def test_rms_norm_is_torchs(rows: int) -> None:
    x, weight = _random(rows, 96), _random(96)
    expected = functional.rms_norm(x, (96,), weight, 1e-5)
    torch.testing.assert_close(rms_norm_reference(x, weight, 1e-5), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), expected, rtol=1e-5, atol=1e-6)


def test_rms_norm_rounds_before_it_weighs() -> None:
    x, weight = _random(7, 96).bfloat16(), _random(96).bfloat16()
    normal = functional.rms_norm(x.float(), (96,), None, 1e-5).bfloat16()
    assert torch.equal(rms_norm_reference(x, weight, 1e-5), weight * normal)


@pytest.mark.parametrize("rows", ROWS)
def test_rotary_turns_each_pair_by_its_angle(rows: int) -> None:
    x, angles = _random(rows, 3, 8), _random(rows, 4)
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(rows, 1, 4), angles.unsqueeze(1))
    ours = rotary_reference(x, angles.cos(), angles.sin())
    torch.testing.assert_close(ours, torch.cat((turned.real, turned.imag), -1), rtol=1e-5, atol=1e-6)
    queries = torch.empty_like(ours)
    alone = torch.nn.functional.pad(x.unsqueeze(1), (0, 0, 0, 2))  # one key-value head, whose key and value are unread
    rotary(alone, angles.cos(), angles.sin(), 1.0, Turned(queries))
    torch.testing.assert_close(queries, ours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", ROWS)
def test_swiglu_gates_with_silu(rows: int) -> None:
    gate, up = _random(rows, 32), _random(rows, 32).flip(0)
    assert torch.allclose(swiglu_reference(gate, up), gate * torch.sigmoid(gate) * up, atol=1e-6)
    assert torch.equal(swiglu(gate, up), swiglu_reference(gate, up))


@pytest.mark.parametrize("rows", ROWS)
def test_step_scores_are_the_heads_rows_in_float32(rows: int) -> None:
    hidden, norm, labels = _random(rows, 96).bfloat16(), _random(96).bfloat16(), _random(2, 96).bfloat16()
    read = torch.arange(rows).flip(0)
    scores = step_scores_reference(hidden, read, norm, 1e-5, labels)
    assert scores.logits.dtype == torch.float32
    expected = functional.linear(rms_norm_reference(hidden, norm, 1e-5).float(), labels.float()).flip(0)
    torch.testing.assert_close(scores.logits, expected)
    torch.testing.assert_close(step_scores(hidden, read, norm, 1e-5, labels).logits, scores.logits)
