"""Kernels are interpreted in the tests' process, from before anything can import Triton.

Where there is a GPU, TRITON_INTERPRET=0 tests them on it.
"""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def through_kernels() -> Iterator[None]:
    """A processor's tensors through the kernels, interpreted; memory that they were to fill is NaN until they do."""
    pytest.importorskip("triton", reason="Triton is not installed")
    import torch

    from kernels.dispatch import interpreting

    torch.use_deterministic_algorithms(True)
    try:
        with interpreting():
            yield
    finally:
        torch.use_deterministic_algorithms(False)
