"""A trial of an operation on made-up numbers: what a start of a server, the tests and the benchmarks all run.

`kernels.<name>.trial(size, dtype, device)` makes one for each name of `kernels.triton.KERNELS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch

Tensors = tuple[torch.Tensor, ...]
# Relatively and absolutely, for numbers near 1: products are summed in another order, and rounded once, not twice.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a trial's tensors are: packed rows of a decoder's layer, `adapted` of which are of pictures.

    `prefix` of the rows are a prefix that `branches` suffixes share, which hold the rest.
    """

    rows: int
    hidden: int = 96
    heads: int = 6
    kv_heads: int = 2
    intermediate: int = 224
    rank: int = 8
    adapted: int = 0
    tiles: int = 1
    tile_size: int = 28
    prefix: int = 0
    branches: int = 1

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class Trial:
    """By the dispatch, and by the reference; `least_bytes` is every input read and every output written, once."""

    ours: Callable[[], Tensors]
    reference: Callable[[], Tensors]
    least_bytes: int


# A server starts with these; odd ones, so that masks are tried as well.
SMALL = Size(rows=37, hidden=96, heads=6, kv_heads=2, intermediate=224, rank=8, adapted=11, prefix=19, branches=3)
# The engine benchmark's W1 in its decoder: 8 candidates of 8 steps of 40 tokens behind a prefix of 1,124.
W1 = Size(
    rows=3684,
    hidden=1024,
    heads=16,
    kv_heads=8,
    intermediate=4096,
    rank=256,
    adapted=1024,
    tiles=4,
    tile_size=448,
    prefix=1124,
    branches=8,
)


def make_trial(name: str, size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    """The trial of the operation `name`."""
    trial: Trial = import_module(f"kernels.{name}").trial(size, dtype, device)
    return trial


def draw(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same on every device."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))
    return numbers.to(device, dtype)


def byte_count(*tensors: torch.Tensor) -> int:
    """Of all the elements of these."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def worst_difference(trial: Trial, dtype: torch.dtype) -> float:
    """The largest |difference| / (1 + |expected|), in units of the type's tolerance; infinite for NaN."""
    worst = 0.0
    for found, expected in zip(trial.ours(), trial.reference(), strict=True):
        off = (found.double() - expected.double()).abs() / (1 + expected.double().abs())
        largest = float(off.max()) if off.numel() else 0.0
        worst = max(worst, largest / TOLERANCE[dtype]) if largest == largest else float("inf")
    return worst


def mismatch(trial: Trial, dtype: torch.dtype) -> str | None:
    """What differs between the two, or None. A number that is not finite differs from every other."""
    tolerance = TOLERANCE[dtype]
    for index, (found, expected) in enumerate(zip(trial.ours(), trial.reference(), strict=True)):
        try:
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        except AssertionError as error:
            return f"output {index}: {' '.join(str(error).split())}"
    return None
