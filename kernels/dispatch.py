"""Whether an operation's Triton kernel runs: decided here alone, by the device of its tensor.

A kernel can be off, because it failed when the process tried it: torch then does its work.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch

_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.uint8})


class _Switches:
    """What this process runs its kernels by: a device is the whole process's, and so is what fails on it."""

    off: frozenset[str] = frozenset()
    interpreting: bool = False


def runs_kernel(name: str, x: torch.Tensor) -> bool:
    """Whether `kernels.triton.<name>` runs on x: on a GPU, or under the interpreter where that is switched on."""
    if not (x.is_cuda or _Switches.interpreting) or x.dtype not in _DTYPES:
        return False
    return name not in _Switches.off and has_triton()


def switch_off(names: Collection[str]) -> None:
    """Let torch do the work of these operations from now on."""
    _Switches.off |= frozenset(names)


@contextmanager
def switched_off(names: Collection[str]) -> Iterator[None]:
    """The same for a while."""
    before = _Switches.off
    switch_off(names)
    try:
        yield
    finally:
        _Switches.off = before


@contextmanager
def interpreting() -> Iterator[None]:
    """Push a processor's tensors through the kernels, in a process that TRITON_INTERPRET=1 made interpret them."""
    from kernels.triton.forms import INTERPRETED

    if not INTERPRETED:
        raise RuntimeError("kernels were decorated for a GPU: start the process with TRITON_INTERPRET=1")
    before, _Switches.interpreting = _Switches.interpreting, True
    try:
        yield
    finally:
        _Switches.interpreting = before


@cache
def has_triton() -> bool:
    """Whether Triton is installed: a server on a processor does without."""
    try:
        return find_spec("triton") is not None
    except ModuleNotFoundError:
        return False
