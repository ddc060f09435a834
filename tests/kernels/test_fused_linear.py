import pytest
import torch
from torch.nn import functional

from kernels.fused_linear import fused_linear, fused_linear_reference, pack

ROWS = [1, 7, 63, 100]
WHAT_FOLLOWS = ["nothing", "silu", "times", "plus"]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _apply(
    linear: str, what: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, other: torch.Tensor
) -> torch.Tensor:
    function = fused_linear if linear == "fused" else fused_linear_reference
    if what == "silu":
        return function(x, weight, bias, silu=True)
    if what == "times":
        return function(x, weight, bias, times=other)
    if what == "plus":
        return function(x, weight, bias, plus=other)
    return function(x, weight, bias)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("what", WHAT_FOLLOWS)
@pytest.mark.parametrize("rows", ROWS)
@torch.inference_mode()
def test_fused_linear_is_its_reference(rows: int, what: str, has_bias: bool, dtype: torch.dtype) -> None:
    x, weight, other = _random(rows, 96).to(dtype), (_random(50, 96) / 8).to(dtype), _random(rows, 50).to(dtype)
    bias = _random(50).to(dtype) if has_bias else None
    kept = other.clone()
    ours = _apply("fused", what, x, weight, bias, other)
    assert (ours.dtype, ours.shape) == (dtype, (rows, 50))
    expected = _apply("reference", what, x, weight, bias, other)
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert torch.equal(other, kept)


@pytest.mark.parametrize("what", WHAT_FOLLOWS)
def test_the_reference_is_the_formula(what: str) -> None:
    x, weight, bias, other = _random(7, 96), _random(50, 96), _random(50), _random(7, 50)
    y = x @ weight.T + bias
    expected = {"nothing": y, "silu": y * torch.sigmoid(y), "times": y * other, "plus": y + other}[what]
    torch.testing.assert_close(_apply("reference", what, x, weight, bias, other), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("what", ["silu", "times", "plus"])
@torch.inference_mode()
def test_a_fused_sum_is_no_farther_from_the_truth_than_two_roundings(what: str) -> None:
    x, weight, bias, other = (t.bfloat16() for t in (_random(100, 96), _random(50, 96), _random(50), _random(100, 50)))
    truth = _apply("reference", what, x.double(), weight.double(), bias.double(), other.double())
    errors = [(_apply(linear, what, x, weight, bias, other).double() - truth).abs().max() for linear in ("fused", "")]
    assert errors[0] <= 1.01 * errors[1]


@torch.inference_mode()
def test_no_rows_are_no_trouble() -> None:
    x, weight, other = torch.empty(0, 96), _random(50, 96), torch.empty(0, 50)
    for what in WHAT_FOLLOWS:
        assert _apply("fused", what, x, weight, None, other).shape == (0, 50)


@torch.inference_mode()
def test_a_row_that_is_a_view_is_read_where_it_lies() -> None:
    wide, weight = _random(63, 200), _random(50, 96)
    ours = fused_linear(wide[:, 40:136], weight, silu=True)
    torch.testing.assert_close(ours, functional.silu(wide[:, 40:136] @ weight.T), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("outputs", "inputs"), [(1024, 1024), (512, 4096)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@torch.inference_mode()
def test_a_fixed_row_has_the_same_bits_among_any_whole_multiple(
    outputs: int, inputs: int, dtype: torch.dtype, packed: bool
) -> None:
    """Long sums are what libraries cut, by the number of rows and of threads."""
    x, weight = _random(544, inputs).to(dtype), (_random(outputs, inputs) / 8).to(dtype)
    other = _random(544, outputs).to(dtype)
    weight = pack(weight) if packed else weight
    for what in WHAT_FOLLOWS:
        whole = _fixed(what, x, weight, other)
        for rows in (16, 48, 64, 128, 176, 256, 272, 512):
            assert torch.equal(_fixed(what, x[:rows], weight, other[:rows]), whole[:rows]), (what, rows)
            assert torch.equal(_fixed(what, x[-rows:], weight, other[-rows:]), whole[-rows:]), (what, rows)


def _fixed(what: str, x: torch.Tensor, weight: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    followed = {what: other} if what in {"times", "plus"} else {}
    return fused_linear(x, weight, silu=what == "silu", **followed, fixed=True)
