"""A processor's tensors through the Triton kernels."""

from collections.abc import Iterator

import pytest
import torch

from kernels.dispatch import interpreting


@pytest.fixture
def through_kernels() -> Iterator[None]:
    """Kernels run, interpreted, and memory that they were to fill is full of NaN until they do."""
    pytest.importorskip("triton", reason="Triton is not installed")
    torch.use_deterministic_algorithms(True)
    try:
        with interpreting():
            yield
    finally:
        torch.use_deterministic_algorithms(False)
