"""Which kernels do not work on this machine's GPU: each is tried on a small case, in a process that may die of it.

`python -m kernels.self_test cuda rms_norm rotary` prints a line for each, up to the first that fails.
"""

import subprocess
import sys
from collections.abc import Sequence

import torch

from kernels.dispatch import has_triton, interpreting
from kernels.trial import SMALL, make_trial, mismatch
from kernels.triton import KERNELS

_OK = "ok"
# Compiling them all takes some ten seconds where nothing is cached.
_PATIENCE_S = 180.0


def failing_kernels(device: str = "cuda", names: Sequence[str] = KERNELS) -> dict[str, str]:
    """Kernels that fail on `device`, each with the reason in a line; `interpreter` is a device, too."""
    if not has_triton():
        return dict.fromkeys(names, "Triton is not installed")
    failed: dict[str, str] = {}
    left = list(names)
    while left:
        told, reason = _try(device, left)
        # A fault of the device is all that its process sees from then on: the rest is tried in another.
        left = left[len(told) :]
        if left:
            failed[left.pop(0)] = reason
    return failed


def _try(device: str, names: Sequence[str]) -> tuple[list[str], str]:
    """The kernels that passed before the first that did not, and why that did not."""
    command = [sys.executable, "-m", "kernels.self_test", device, *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
        output, ended = done.stdout, f"its process ended with {done.returncode}: {_last_line(done.stderr)}"
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout.decode() if isinstance(expired.stdout, bytes) else expired.stdout or ""
        ended = f"no answer in {_PATIENCE_S:.0f} s"
    verdicts = [line.split("\t", 1) for line in output.splitlines() if "\t" in line]
    passed = [name for name, verdict in verdicts if verdict == _OK]
    reasons = [verdict for _, verdict in verdicts if verdict != _OK]
    return passed, reasons[0] if reasons else ended


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _fault(name: str, device: torch.device) -> str | None:
    """What is wrong with a kernel, in a line."""
    try:
        for dtype in (torch.float32, torch.bfloat16):
            if problem := mismatch(make_trial(name, SMALL, dtype, device), dtype):
                return f"{dtype}: {problem}"
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver raises
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def main(device: str, names: Sequence[str]) -> int:
    if device == "interpreter":
        with interpreting():
            return _report(torch.device("cpu"), names)
    return _report(torch.device(device), names)


def _report(device: torch.device, names: Sequence[str]) -> int:
    for name in names:
        fault = _fault(name, device)
        sys.stdout.write(f"{name}\t{fault or _OK}\n")
        sys.stdout.flush()
        if fault:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
