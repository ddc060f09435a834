"""Features set apart: the same bits, in memory that comes and goes with them."""

import os

import pytest
import torch

from benchmarks.load_memory import anonymous_bytes
from models.feature_memory import MappedFeatures, set_apart

MIB = 2**20


def kept(features: torch.Tensor) -> MappedFeatures:
    apart = set_apart(features)
    assert isinstance(apart, MappedFeatures)
    return apart


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (256, 1024)])
def test_they_are_the_same(shape: tuple[int, int], dtype: torch.dtype) -> None:
    features = torch.randn(shape).to(dtype)
    apart = kept(features)
    assert apart.nbytes == features.nbytes
    assert apart.tensor().dtype == dtype
    assert torch.equal(apart.tensor(), features)


def test_rows_that_do_not_follow_each_other_are_kept_as_they_are_read() -> None:
    features = torch.arange(24.0).view(4, 6).t()[::2]
    assert torch.equal(kept(features).tensor(), features)


def test_they_are_a_copy() -> None:
    features = torch.zeros(3, 4)
    apart = kept(features)
    features += 1
    assert not apart.tensor().any()


def test_a_tensor_of_them_outlives_them() -> None:
    tensor = kept(torch.full((512, 1024), 3.0)).tensor()
    torch.zeros(512, 1024)
    assert (tensor == 3).all()


def test_their_memory_goes_when_they_go() -> None:
    features = torch.ones(16, MIB)
    before = anonymous_bytes(os.getpid())
    apart = [kept(features) for _ in range(2)]
    held = anonymous_bytes(os.getpid()) - before
    assert 120 * MIB < held < 136 * MIB
    del apart[0]
    assert held - (anonymous_bytes(os.getpid()) - before) > 56 * MIB


def test_there_may_be_no_memory_for_them() -> None:
    with pytest.raises(MemoryError, match="bytes of features"):
        set_apart(torch.zeros(1).expand(2**60))
