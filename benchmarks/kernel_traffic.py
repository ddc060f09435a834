"""Bytes that the kernels load and store for W1, counted under the interpreter, beside what cannot be avoided.

TRITON_INTERPRET=1 python -m benchmarks.kernel_traffic [--only rms_norm] [--dtype bfloat16]

`asked` counts every unmasked element of every load and store. `moved` counts each sector of 32 bytes that a kernel
touches once for reading and once for writing, as memory behind an ideal cache would. The bound is the least bytes at a
GPU's bandwidth.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from triton.runtime import interpreter

from kernels.dispatch import interpreting
from kernels.trial import W1, Size, make_trial
from kernels.triton import KERNELS

RESULT = Path(__file__).parent / "results" / "kernel_traffic.md"
# Bytes a second.
BANDWIDTH = {"A100": 2.0e12, "H100": 3.35e12, "H200": 4.8e12}
_SECTOR_BITS, _CHUNK_BITS = 5, 20


@dataclass(slots=True)
class Traffic:
    """Bytes of loads or stores: `asked` for, and the sectors that were touched at all."""

    asked: int = 0
    _touched: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def moved(self) -> int:
        return sum(int(chunk.sum()) for chunk in self._touched.values()) << _SECTOR_BITS

    def add(self, addresses: npt.NDArray[np.uint64], mask: npt.NDArray[np.bool_], itemsize: int) -> None:
        picked = np.broadcast_to(addresses, mask.shape)[mask]
        self.asked += picked.size * itemsize
        sectors = np.unique(picked >> np.uint64(_SECTOR_BITS)).astype(np.int64)
        chunks = sectors >> _CHUNK_BITS
        for number in np.unique(chunks).tolist():
            touched = self._touched.setdefault(number, np.zeros(1 << _CHUNK_BITS, np.bool_))
            touched[sectors[chunks == number] & ((1 << _CHUNK_BITS) - 1)] = True


@dataclass(frozen=True, slots=True)
class Row:
    """One operation's bytes on W1."""

    kernel: str
    least: int
    asked: int
    moved: int


@contextmanager
def counted() -> Iterator[tuple[Traffic, Traffic]]:
    """Loads and stores of all kernels that are interpreted meanwhile; a launch's own memory must live as long."""
    builder: Any = interpreter.interpreter_builder
    loads, stores = Traffic(), Traffic()
    load, store = builder.create_masked_load, builder.create_masked_store
    builder.create_masked_load = _counting(load, loads, 1)
    builder.create_masked_store = _counting(store, stores, 2)
    try:
        yield loads, stores
    finally:
        builder.create_masked_load, builder.create_masked_store = load, store


def _counting(access: Callable[..., object], traffic: Traffic, mask: int) -> Callable[..., object]:
    """The interpreter's own load or store, counted; `mask` is the number of that argument."""

    @wraps(access)
    def counting(*arguments: Any) -> object:  # noqa: ANN401 - the interpreter's handles
        pointers = arguments[0]
        itemsize = pointers.get_element_ty().primitive_bitwidth // 8
        traffic.add(pointers.data, arguments[mask].data.astype(np.bool_), itemsize)
        return access(*arguments)

    return counting


def count(name: str, size: Size, dtype: torch.dtype) -> Row:
    """The traffic of one trial."""
    trial = make_trial(name, size, dtype, torch.device("cpu"))
    with interpreting(), counted() as (loads, stores):
        held = trial.ours()
    del held
    return Row(name, trial.least_bytes, loads.asked + stores.asked, loads.moved + stores.moved)


def table(rows: Sequence[Row], dtype: str) -> str:
    """Markdown."""
    lines = [
        "# Bytes that the kernels move",
        "",
        f"W1 of the engine benchmark, one layer, {dtype}, counted under Triton's interpreter:",
        f"`TRITON_INTERPRET=1 python -m benchmarks.kernel_traffic --dtype {dtype}`. *Asked* is every load and store,",
        "*moved* each sector of 32 bytes once. Bounds are the least bytes at each GPU's bandwidth "
        + ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in BANDWIDTH.items())
        + " TB/s.",
        "",
        "| kernel | least, MB | asked | moved | " + " | ".join(f"{name}, µs" for name in BANDWIDTH) + " |",
        "|---|---|---|---|" + "---|" * len(BANDWIDTH),
    ]
    for row in [*rows, *([_sum(rows)] if len(rows) > 1 else [])]:
        bounds = " | ".join(f"{row.least / rate * 1e6:.1f}" for rate in BANDWIDTH.values())
        asked, moved = row.asked / row.least, row.moved / row.least
        lines.append(f"| {row.kernel} | {row.least / 1e6:.2f} | {asked:.3f} × | {moved:.3f} × | {bounds} |")
    return "\n".join(lines) + "\n"


def _sum(rows: Sequence[Row]) -> Row:
    return Row("together", *(sum(getattr(row, name) for row in rows) for name in ("least", "asked", "moved")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KERNELS, default=KERNELS)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    rows = []
    for name in options.only:
        rows.append(count(name, W1, getattr(torch, options.dtype)))
        print(rows[-1], flush=True)
    written = table(rows, options.dtype)
    if tuple(options.only) == KERNELS:
        RESULT.write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
