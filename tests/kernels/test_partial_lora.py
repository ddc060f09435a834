import pytest
import torch
from torch.nn import functional

from kernels.partial_lora import partial_lora, partial_lora_reference

ROWS = [1, 7, 63, 100]


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _weights(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """weight, bias, a, b"""
    return tuple(_random(*shape).to(dtype) / 8 for shape in ((80, 96), (80,), (8, 96), (80, 8)))  # type: ignore[return-value]


@pytest.mark.parametrize("tokens", ROWS)
def test_only_the_picture_rows_have_the_low_rank_term(tokens: int) -> None:
    x, (weight, bias, a, b) = _random(tokens, 96), _weights()
    rows = torch.arange(0, tokens, 2)
    expected = functional.linear(x, weight, bias)
    expected[::2] += x[::2] @ (b @ a).T
    torch.testing.assert_close(partial_lora_reference(x, weight, bias, a, b, rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", ROWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_partial_lora_is_its_reference(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    x, weights = _random(tokens, 96).to(dtype), _weights(dtype)
    for rows in (torch.arange(tokens), torch.arange(tokens // 3, tokens // 2), torch.arange(0)):
        ours = partial_lora(x, *weights, rows)
        torch.testing.assert_close(ours, partial_lora_reference(x, *weights, rows), rtol=tolerance, atol=tolerance)


def test_a_text_row_is_bit_for_bit_what_the_plain_linear_gives() -> None:
    x, (weight, bias, a, b) = _random(63, 96), _weights()
    ours = partial_lora(x, weight, bias, a, b, torch.arange(20, 40))
    plain = functional.linear(x, weight, bias)
    assert torch.equal(ours[:20], plain[:20])
    assert torch.equal(ours[40:], plain[40:])


def test_a_linear_may_have_no_bias() -> None:
    x, (weight, _, a, b) = _random(7, 96), _weights()
    rows = torch.tensor([6, 0])
    expected = partial_lora_reference(x, weight, None, a, b, rows)
    torch.testing.assert_close(partial_lora(x, weight, None, a, b, rows), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_adapted_row_has_the_same_bits_however_many_there_are(dtype: torch.dtype) -> None:
    x, weights = _random(64, 96).to(dtype), _weights(dtype)
    many = partial_lora(x, *weights, torch.arange(64))
    for count in (1, 2, 3, 5, 11, 17):
        rows = torch.arange(30, 30 + count)
        assert torch.equal(partial_lora(x, *weights, rows)[rows], many[rows])


@pytest.mark.parametrize("width", [96, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_a_fixed_adapted_row_has_the_same_bits_however_many_there_are(dtype: torch.dtype, width: int) -> None:
    x = _random(64, width).to(dtype)
    weight, bias, a, b = (_random(*shape).to(dtype) / 8 for shape in ((80, width), (80,), (8, width), (80, 8)))
    many = partial_lora(x, weight, bias, a, b, torch.arange(64), fixed=True)
    assert torch.equal(partial_lora(x, weight, bias, a, b, torch.arange(0), fixed=True)[:0], many[:0])
    for count in (1, 2, 3, 5, 11, 17, 48):
        rows = torch.arange(10, 10 + count)
        assert torch.equal(partial_lora(x, weight, bias, a, b, rows, fixed=True)[rows], many[rows])
