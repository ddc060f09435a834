"""Try the kernels on a GPU: each one's numbers, both families' golden scores, then speed against torch's way.

python -m benchmarks.gpu_check [--quick] [--budget 230] [--golden ../shared/golden] [--out benchmarks/results]

Needs torch, triton, numpy, pillow, safetensors and sentencepiece, and neither the service nor what that stands on.
Every part is a process of its own with a time limit: one that fails is told, and the rest goes on without its kernel.
`--quick` leaves speed out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_report import Found, table
from kernels.triton import KERNELS

_GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
_FAMILIES, _DTYPES = ("visualprm", "ixc_reward"), ("float32", "bfloat16")
_STARTED = time.monotonic()


@dataclass(slots=True)
class Part:
    """One process: `name` and `arguments` of `benchmarks.gpu_parts`, and how long it may take."""

    title: str
    arguments: Sequence[str]
    limit_s: float
    process: subprocess.Popen[bytes] | None = None
    output: Any = field(default_factory=tempfile.TemporaryFile)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", type=float, default=230.0, help="seconds for everything")
    parser.add_argument("--golden", type=Path, default=Path(os.environ.get("STEELYARD_GOLDEN", _GOLDEN)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", nargs="+", choices=KERNELS, default=KERNELS)
    options = parser.parse_args()
    found = Found(device=_device())
    _say(f"{found.device}; {len(options.only)} kernels")
    limit = options.budget
    found.parity = _run([Part(name, ["parity", name], 75) for name in options.only], limit)
    off = [row["kernel"] for row in found.parity if row["problem"]]
    switched_off = ["--off", *off] if off else []
    goldens = [
        Part(f"{family} {dtype}{' by torch' if plain else ''}", ["goldens", family, dtype, *more], 80)
        for family in _FAMILIES
        for dtype in _DTYPES
        for plain, more in ((False, switched_off), (True, ["--off", *KERNELS]))
    ]
    for part in goldens:
        part.arguments = [*part.arguments, "--golden", str(options.golden)]
    if options.golden.is_dir():
        found.goldens = _run(goldens, limit)
    else:
        _say(f"no golden cases at {options.golden}")
    _write(found, options.out)
    if not options.quick:
        # One after the other: they would disturb one another's times.
        found.kernels = _run([Part("speed of the kernels", ["kernels", *switched_off], 60)], limit)
        _write(found, options.out)
        found.engine = _run([Part("speed of the engine", ["engine", *switched_off], 110)], limit)
        _write(found, options.out)
    print(table(found), flush=True)
    return 1 if found.problems else 0


def _run(parts: Sequence[Part], budget_s: float) -> list[dict[str, Any]]:
    """All at once; the rows that they printed, and one with a problem for a part that failed."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu_parts"]
    for part in parts:
        part.process = subprocess.Popen(
            [*command, *part.arguments], stdout=part.output, stderr=subprocess.STDOUT, env=environment
        )
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    for part in parts:
        left = min(part.limit_s - (time.monotonic() - started), budget_s - (time.monotonic() - _STARTED))
        rows += _collect(part, left)
    return rows


def _collect(part: Part, left_s: float) -> list[dict[str, Any]]:
    assert part.process is not None
    ended = "took too long"
    try:
        status = part.process.wait(timeout=max(left_s, 0.1))
        ended = f"ended with {status}" if status else ""
    except subprocess.TimeoutExpired:
        part.process.kill()
        part.process.wait()
    part.output.seek(0)
    lines = part.output.read().decode(errors="replace").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith('{"row"')]
    said = [line for line in lines if not line.startswith('{"row"')]
    if ended:
        last = " / ".join(line.strip() for line in said[-3:])
        rows.append({"row": part.title, "kernel": part.title, "problem": f"{ended}: {last}"})
        print("\n".join(said[-25:]), flush=True)
    _say(f"{part.title}: {'; '.join(row['problem'] for row in rows if row.get('problem')) or 'ok'}")
    return rows


def _device() -> str:
    """Asked in a process of its own, so that this one holds no context on the GPU."""
    ask = "import torch; print(torch.cuda.get_device_name(), torch.__version__, sep='|')"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no GPU: {(done.stderr.splitlines() or [''])[-1]}")
    name, _, version = done.stdout.strip().partition("|")
    return f"{name}, torch {version}"


def _write(found: Found, out: Path) -> None:
    """After each part, so that an interrupted run has told what it knew."""
    out.mkdir(parents=True, exist_ok=True)
    name = found.device.partition(",")[0].lower().replace("nvidia ", "").replace(" ", "-")
    (out / f"gpu-{name}.md").write_text(table(found), encoding="utf-8")


def _say(line: str) -> None:
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
