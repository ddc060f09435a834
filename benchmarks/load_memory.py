"""Anonymous memory while a checkpoint loads, against the bytes of what it loads. Exit status 1 above 1.15.

python -m benchmarks.load_memory [--checkpoint DIR] [--dtype bfloat16] [--layers 2]
Without --checkpoint: random weights of VisualPRM-8B's dimensions, stored in bfloat16 and then in float32.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.random_checkpoint import TOKENIZER, Dimensions, write_checkpoint
from models.visual_prm.network import load
from models.weights import stored_tensors

_LIMIT = 1.15
_POLL_S = 0.002
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Loading:
    """Bytes of anonymous memory before and at the peak, bytes of the weights that stay, and the time."""

    idle: int
    peak: int
    weights: int
    seconds: float

    @property
    def ratio(self) -> float:
        return (self.peak - self.idle) / self.weights


def measure(directory: Path, dtype: torch.dtype) -> Loading:
    """Load in a fresh process, polled from this one so that measuring costs it nothing."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_load, args=(directory, dtype, theirs))
    child.start()
    theirs.close()
    assert child.pid is not None
    ours.recv()
    idle = peak = anonymous_bytes(child.pid)
    ours.send("load")
    while not ours.poll(_POLL_S):
        peak = max(peak, anonymous_bytes(child.pid))
    weights, seconds = ours.recv()
    peak = max(peak, anonymous_bytes(child.pid))
    ours.send("end")
    child.join()
    return Loading(idle, peak, weights, seconds)


def anonymous_bytes(pid: int) -> int:
    """RssAnon: resident memory that no file backs, so that the kernel cannot drop it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    # A process that has just died has no such line.
    kib = next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")), "0")
    return int(kib) * 1024


def _load(directory: Path, dtype: torch.dtype, parent: Connection) -> None:
    parent.send("idle")
    parent.recv()
    start = time.perf_counter()
    model = load(directory, dtype, torch.device("cpu"))
    seconds = time.perf_counter() - start
    parent.send((sum(tensor.nbytes for tensor in _weights(model)), seconds))
    parent.recv()


def _weights(part: object) -> Iterator[torch.Tensor]:
    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from _weights(item)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _weights(getattr(part, field.name))


def _report(directory: Path, dtype: torch.dtype) -> bool:
    stored = stored_tensors(directory).values()
    held = sum(prod(tensor.shape) for tensor in stored) * dtype.itemsize
    loading = measure(directory, dtype)
    kinds = ", ".join(sorted({tensor.dtype for tensor in stored}))
    print(f"{kinds} → {str(dtype).removeprefix('torch.')}, {len(stored)} tensors, {loading.seconds:.1f} s")
    print(f"  idle {loading.idle / _GIB:.3f} GiB, peak {loading.peak / _GIB:.3f} GiB anonymous")
    print(f"  weights {loading.weights / _GIB:.3f} GiB loaded, {held / _GIB:.3f} GiB in the checkpoint")
    print(f"  (peak - idle) / loaded = {loading.ratio:.3f}, limit {_LIMIT}")
    return loading.ratio <= _LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--layers", type=int, default=2, help="decoder layers of the random checkpoint")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    if options.checkpoint is not None:
        return 0 if _report(options.checkpoint, dtype) else 1
    within = True
    for stored in (torch.bfloat16, torch.float32):
        with tempfile.TemporaryDirectory() as folder:
            dimensions = Dimensions(layers=options.layers)
            write_checkpoint(Path(folder), dimensions, dtype=stored, tokenizer=options.tokenizer)
            within &= _report(Path(folder), dtype)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
