"""The norm's kernel, interpreted, against its reference."""

import pytest
import torch
from torch.nn import functional

from kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_reference
from kernels.trial import TOLERANCE, Size, make_trial, mismatch

ROWS = [1, 7, 63, 100]


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("hidden", [1, 96, 1024])
@pytest.mark.parametrize("rows", ROWS)
def test_the_kernel_is_the_reference(rows: int, hidden: int, dtype: torch.dtype) -> None:
    trial = make_trial("rms_norm", Size(rows, hidden=hidden), dtype, torch.device("cpu"))
    assert mismatch(trial, dtype) is None


@pytest.mark.usefixtures("through_kernels")
def test_without_a_sum_the_rows_are_left_alone() -> None:
    x, weight = torch.randn(7, 96), torch.randn(96)
    kept = x.clone()
    total, normal = add_rms_norm(x, None, weight, 1e-5)
    assert total is x
    assert torch.equal(x, kept)
    torch.testing.assert_close(normal, functional.rms_norm(x, (96,), weight, 1e-5))


@pytest.mark.usefixtures("through_kernels")
def test_no_rows_are_no_trouble() -> None:
    assert rms_norm(torch.empty(0, 96), torch.ones(96), 1e-5).shape == (0, 96)


@pytest.mark.usefixtures("through_kernels")
def test_rows_that_are_a_view_are_read_where_they_lie() -> None:
    x, weight = torch.randn(63, 200)[:, 40:136], torch.randn(96)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5))
