"""The count of bytes, on a case small enough to count by hand, and what it says of the kernels."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from benchmarks.kernel_traffic import count
from kernels.trial import Size

ROWS = Size(rows=64, hidden=512, heads=8, kv_heads=8, intermediate=1024, tiles=1, tile_size=64)


@pytest.mark.usefixtures("through_kernels")
def test_every_element_is_counted_once_where_a_kernel_asks_once() -> None:
    row = count("swiglu", ROWS, torch.bfloat16)
    assert row.asked == row.moved == row.least == 3 * 64 * 1024 * 2


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("name", ["rms_norm", "rotary", "swiglu", "pixel_tiles"])
def test_what_streams_asks_for_little_more_than_the_least(name: str) -> None:
    row = count(name, ROWS, torch.bfloat16)
    assert row.least <= row.moved <= row.asked <= 1.2 * row.least
