"""Read-outs by the kernel: which rows, how many labels, and a row's bits."""

import pytest
import torch

from kernels.step_scores import step_scores, step_scores_reference


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_rows_are_read_in_any_order_and_as_often_as_named(labels: int) -> None:
    hidden, norm, head = _random(63, 200)[:, 40:136], _random(96), _random(labels, 96) / 10
    rows = torch.tensor([62, 0, 7, 7, 31])
    ours, expected = (score(hidden, rows, norm, 1e-5, head) for score in (step_scores, step_scores_reference))
    torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.log_odds, expected.log_odds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.probability, expected.probability, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("through_kernels")
def test_the_odds_of_two_labels_are_their_logits_difference_and_those_of_one_its_logit() -> None:
    hidden, norm, head, rows = _random(7, 96), _random(96), _random(2, 96) / 10, torch.arange(7)
    two, one = step_scores(hidden, rows, norm, 1e-5, head), step_scores(hidden, rows, norm, 1e-5, head[:1])
    assert torch.equal(two.log_odds, two.logits[:, 0] - two.logits[:, 1])
    assert torch.equal(one.log_odds, one.logits[:, 0])
    torch.testing.assert_close(two.probability, two.logits.softmax(-1)[:, 0])


@pytest.mark.usefixtures("through_kernels")
def test_a_row_has_the_same_bits_however_many_are_read() -> None:
    hidden, norm, head = _random(100, 96).bfloat16(), _random(96).bfloat16(), _random(1, 96).bfloat16()
    many = step_scores(hidden, torch.arange(100), norm, 1e-5, head).logits
    assert torch.equal(step_scores(hidden, torch.tensor([41]), norm, 1e-5, head).logits, many[41:42])


@pytest.mark.usefixtures("through_kernels")
def test_no_read_outs_are_no_trouble() -> None:
    found = step_scores(_random(3, 96), torch.empty(0, dtype=torch.long), _random(96), 1e-5, _random(2, 96))
    assert (found.logits.shape, found.probability.shape) == ((0, 2), (0,))
