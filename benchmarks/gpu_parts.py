"""The parts of `benchmarks.gpu_check`, each run as a process that prints one JSON row for each thing it tried."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import triton

from benchmarks.workloads import FULL, SHAPES, Model, Workload, build_workload, random_model
from kernels.dispatch import runs_kernel, switch_off, switched_off
from kernels.fixed_linear import fixed_linear
from kernels.trial import SMALL, W1, Size, draw, make_trial, worst_difference
from kernels.triton import KERNELS
from models.candidate import Candidate
from models.pausing import run_through
from models.readout import prompts_of
from models.tree_scorer import Logits, TreeScorer
from tests.conformance.by_models import verdicts

_CUDA = torch.device("cuda")
# The released models' layer, for W1's rows.
REAL = Size(
    rows=3684,
    hidden=4096,
    heads=32,
    kv_heads=8,
    intermediate=14336,
    rank=256,
    adapted=1024,
    tiles=13,
    tile_size=448,
    prefix=1124,
    branches=8,
)
_SIZES: Mapping[str, Size] = {
    "one row": Size(
        1, hidden=8, heads=2, kv_heads=1, intermediate=17, rank=1, adapted=1, tile_size=1, prefix=1, branches=1
    ),
    "7 rows": Size(
        7, hidden=24, heads=4, kv_heads=2, intermediate=31, rank=3, adapted=2, tiles=2, tile_size=7, prefix=3
    ),
    "small": SMALL,
    "100 rows": Size(
        100, hidden=200, heads=20, kv_heads=5, intermediate=224, rank=17, adapted=99, tiles=3, prefix=52, branches=4
    ),
    "real width": Size(
        300, hidden=4096, heads=32, kv_heads=8, intermediate=14336, rank=256, adapted=130, tiles=2, tile_size=448,
        prefix=100, branches=5
    ),
    "W1": W1,
}  # fmt: skip
_CACHE_BYTES = 2**31
_ROUNDS = 5
# What two bfloat16 networks that add up in another order may differ by, where logits are near 1.
_ENGINE_TOLERANCE = 0.15


def parity(name: str) -> None:
    """One kernel, every size, both types; `worst` is in units of the tolerance."""
    worst, problems = 0.0, []
    for label, size in _SIZES.items():
        for dtype in (torch.float32, torch.bfloat16):
            off = worst_difference(make_trial(name, size, dtype, _CUDA), dtype)
            # Products of thousands of float32 numbers, summed in two orders.
            allowed = 10.0 if dtype == torch.float32 and size.hidden > 512 else 1.0
            worst = max(worst, off)
            if not off <= allowed:
                problems.append(f"{label} {dtype}: {off:.3g} tolerances off")
    if name == "fixed_linear" and not _is_fixed():
        problems.append("a row's bits depend on the number of rows")
    torch.cuda.synchronize()
    _row(name, kernel=name, cases=2 * len(_SIZES), worst=worst, problem="; ".join(problems))


def _is_fixed() -> bool:
    """Whether rows have the same bits however many they are."""
    x, weight = (draw(*shape, dtype=torch.bfloat16, device=_CUDA) for shape in ((300, 1024), (1536, 1024)))
    whole = fixed_linear(x, weight)
    return all(torch.equal(fixed_linear(x[:rows], weight), whole[:rows]) for rows in (1, 7, 64, 129, 256))


def goldens(family: str, dtype: str, golden: Path, off: Sequence[str]) -> None:
    """One family's golden scores."""
    switch_off(off)
    started = time.monotonic()
    found = list(verdicts(family, golden, _CUDA, getattr(torch, dtype)))
    failed = [verdict for verdict in found if not verdict.passed]
    problem = f"{len(failed)} differ, first {failed[0].id}: {failed[0].differences[0]}" if failed else ""
    title = f"{family}, {dtype}, {'torch' if set(off) == set(KERNELS) else 'kernels'}"
    _row(
        title,
        run=title,
        passed=len(found) - len(failed),
        failed=len(failed),
        worst=max(verdict.worst for verdict in found),
        seconds=time.monotonic() - started,
        problem=problem,
    )


def kernels(off: Sequence[str]) -> None:
    """Each kernel's time with a cold cache, bfloat16."""
    switch_off(off)
    for name in KERNELS:
        for label, size in (("W1", W1), ("W1, real width", REAL)):
            trial = make_trial(name, size, torch.bfloat16, _CUDA)
            ours = _microseconds(trial.ours)
            with switched_off([name]):
                theirs = _microseconds(trial.ours)
            speed = {"µs": ours, "torch, µs": theirs, "times faster": theirs / ours}
            row = {"kernel": name, "size": label, **speed, "GB/s of the least": trial.least_bytes / ours / 1e3}
            _row(f"{name}, {label}", **row)


def _microseconds(run: Callable[[], object]) -> float:
    return float(triton.testing.do_bench(run, warmup=10, rep=40, return_mode="median")) * 1e3


def engine(off: Sequence[str]) -> None:
    """W1 to W6 on the engine benchmark's decoder, bfloat16, with kernels and without, in turn."""
    switch_off(off)
    model = random_model(FULL, torch.bfloat16, device=_CUDA)
    assert runs_kernel("rms_norm", model.labels) or "rms_norm" in off
    for name in ("W1", "W2", "W3", "W5", "W6", "W4"):
        shape = "W1" if name == "W2" else name
        workload = build_workload(shape, SHAPES[shape], FULL, torch.bfloat16, device=_CUDA)
        run = {"W2": _cached, "W3": _growing}.get(name, _packed)
        with torch.inference_mode():
            _engine_row(name, workload, lambda run=run, workload=workload: run(model, workload))  # type: ignore[misc]


def _engine_row(name: str, workload: Workload, run: Callable[[], tuple[float, list[Logits]]]) -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    logits: dict[bool, list[Logits]] = {}
    rounds = 2 if name in ("W4", "W6") else _ROUNDS
    # The first round compiles and is not counted.
    for index in range(rounds + 1):
        for plain in (False, True):
            with switched_off(KERNELS if plain else ()):
                seconds, logits[plain] = run()
            if index:
                times[plain].append(seconds)
    pairs = zip(logits[False], logits[True], strict=True)
    off = max(float(np.abs(one - other).max()) for one, other in pairs)
    ours, theirs = statistics.median(times[False]) * 1e3, statistics.median(times[True]) * 1e3
    _row(
        name,
        workload=name,
        tokens=workload.tree_tokens,
        problem="" if off < _ENGINE_TOLERANCE else f"logits differ by {off:.3g}",
        **{"ms": ours, "torch, ms": theirs, "times faster": theirs / ours},
        **{"tokens/s": round(workload.tree_tokens / ours * 1e3)},
    )


def _packed(model: Model, workload: Workload) -> tuple[float, list[Logits]]:
    return _timed(TreeScorer(model.packed, model.labels), [workload.candidates])


def _cached(model: Model, workload: Workload) -> tuple[float, list[Logits]]:
    """With the prefix held before the clock starts."""
    scorer = TreeScorer(model.packed, model.labels, _CACHE_BYTES)
    prefix = int(workload.candidates[0].readouts[0]) + 1 - SHAPES["W1"].step_tokens
    first = workload.candidates[0]
    held = Candidate(first.ids[: prefix + 1], np.array([prefix - 1], np.int32), first.pictures)
    _timed(scorer, [[held]])
    return _timed(scorer, [workload.candidates])


def _growing(model: Model, workload: Workload) -> tuple[float, list[Logits]]:
    scorer = TreeScorer(model.packed, model.labels, _CACHE_BYTES)
    return _timed(scorer, [[candidate] for candidate in workload.candidates])


def _timed(scorer: TreeScorer, batches: Sequence[Sequence[Candidate]]) -> tuple[float, list[Logits]]:
    ready = [prompts_of(batch) for batch in batches]
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = [logits for prompts, features in ready for logits in run_through(scorer.begin(prompts).run(features))]
    torch.cuda.synchronize()
    return time.perf_counter() - started, found


def _row(title: str, **values: object) -> None:
    print(json.dumps({"row": title, **values}, default=float), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["parity", "goldens", "kernels", "engine"])
    parser.add_argument("what", nargs="*")
    parser.add_argument("--off", nargs="*", default=[], help="kernels that are not to run")
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    # TensorFloat-32 keeps ten bits of a float32's mantissa.
    torch.backends.cudnn.allow_tf32 = False
    if options.part == "parity":
        parity(options.what[0])
    elif options.part == "goldens":
        family, dtype = options.what
        goldens(family, dtype, options.golden, options.off)
    elif options.part == "kernels":
        kernels(options.off)
    else:
        engine(options.off)


if __name__ == "__main__":
    main()
