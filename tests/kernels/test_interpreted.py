"""Every kernel, interpreted, against its reference: what it leaves unwritten is NaN."""

import pytest
import torch

from kernels.trial import SMALL, TOLERANCE, Size, make_trial, mismatch
from kernels.triton import KERNELS

CPU = torch.device("cpu")
SIZES = [
    Size(rows=1, hidden=8, heads=2, kv_heads=1, intermediate=17, rank=1, adapted=1, tiles=1, tile_size=1),
    Size(rows=7, hidden=24, heads=4, kv_heads=2, intermediate=31, rank=3, adapted=2, tiles=2, tile_size=7),
    Size(rows=63, hidden=96, heads=6, kv_heads=2, intermediate=100, rank=8, adapted=40, tiles=1, tile_size=63),
    Size(rows=100, hidden=200, heads=20, kv_heads=5, intermediate=224, rank=17, adapted=100, tiles=3, tile_size=28),
    SMALL,
]


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.rows} rows")
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_is_its_reference(name: str, size: Size, dtype: torch.dtype) -> None:
    assert mismatch(make_trial(name, size, dtype, CPU), dtype) is None


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("name", KERNELS)
def test_so_it_is_at_a_real_width(name: str) -> None:
    real = Size(rows=9, hidden=1024, heads=8, kv_heads=2, intermediate=2048, rank=256, adapted=5, tile_size=112)
    assert mismatch(make_trial(name, real, torch.bfloat16, CPU), torch.bfloat16) is None


@pytest.mark.parametrize("name", KERNELS)
def test_so_is_what_torch_does_instead(name: str) -> None:
    assert mismatch(make_trial(name, SMALL, torch.float32, CPU), torch.float32) is None
