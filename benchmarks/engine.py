"""The engine against the reference's way, padding and vLLM, in turn, on a random decoder of 441 M parameters.

python -m benchmarks.engine [--workloads W1 W2 W3 W5 W6] [--dtype bfloat16] [--rounds 3] [--vllm DIR/bin/python]
                            [--baselines soft soft_v2 padded] [--out benchmarks/results]

Correctness comes first: every contestant's numbers against the engine's, before any time is taken. `soft` is a sample
of its calls, scaled. vLLM wants an environment of its own: see `benchmarks.vllm_baseline`.
"""

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import engine_picture
from benchmarks.baselines import BASELINES, soft, soft_sample
from benchmarks.interleaved import Contestant, Times, interleave
from benchmarks.operations import done_operations, needed_operations, whole_tree
from benchmarks.tuned import start_tuned
from benchmarks.vllm_baseline import VLLM
from benchmarks.workloads import FULL, SHAPES, Model, Workload, build_workload, random_model
from kernels.processor import has_amx
from kernels.tree_attention import keeps_no_scores
from models.candidate import Candidate
from models.pausing import run_through
from models.readout import prompts_of
from models.tree_scorer import Logits, TreeScorer

OURS, INVARIANT, CACHED = "steelyard", "steelyard, batch-invariant", "steelyard, prefix cached"
_CACHE_BYTES = 2**31
# The others take minutes for the larger workloads, which therefore have one round.
_AFFORDABLE = {"W1": {"soft", "soft_v2", "padded"}, "W5": set[str](), "W6": {"padded"}}
# What 2 bfloat16 networks that add up in another order may differ by, where scores are near 1.
_TOLERANCE = {torch.bfloat16: 0.15, torch.float32: 1e-4}


@dataclass(frozen=True, slots=True)
class Report:
    """One workload's times, and what else is to be told of it."""

    workload: str
    times: Times
    facts: dict[str, Any] = field(default_factory=dict)


def score(model: Model, candidates: Sequence[Candidate], scorer: TreeScorer | None = None) -> list[Logits]:
    """By the engine, with a cache of its own if none is given."""
    prompts, features = prompts_of(candidates)
    scorer = scorer or TreeScorer(model.packed, model.labels)
    return run_through(scorer.begin(prompts).run(features))


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations a second of the decoder's widest product on W1's prefix: the best of some."""
    x, weight = torch.randn(1124, FULL.hidden_size, dtype=dtype), torch.randn(4096, FULL.hidden_size, dtype=dtype)
    taken = []
    for _ in range(12):
        started = time.perf_counter()
        functional.linear(x, weight)
        taken.append(time.perf_counter() - started)
    return 2 * x.shape[0] * weight.numel() / min(taken)


def run_packed(model: Model, workload: Workload, options: argparse.Namespace, dtype: torch.dtype) -> Report:
    """W1, W5 and W6: one group, nothing held."""
    prompts, _ = prompts_of(workload.candidates)
    tree = whole_tree(prompts)
    read = np.unique(np.concatenate(tree.readouts)).tolist()
    fused = keeps_no_scores(model.labels, invariant=False)
    needed, done = needed_operations(tree, FULL, read), done_operations(tree, FULL, read, fused=fused)
    rates: list[float] = []

    def ours() -> float:
        rates.append(matmul_rate(dtype))
        return 1.0

    contestants: dict[str, Contestant] = {"(the matmul rate)": ours, OURS: lambda: _once(score, model, workload)}
    with contextlib.ExitStack() as stack:
        contestants |= _baselines(model, workload, [n for n in options.baselines if n in _AFFORDABLE[workload.name]])
        if workload.name == "W1":
            contestants[INVARIANT] = lambda: _once(_score_invariant, model, workload)
            contestants |= _vllm(stack, workload, options)
        _check(model, workload, contestants.keys() & BASELINES.keys(), dtype)
        times = interleave(contestants, options.rounds if workload.name == "W1" else 1)
    rate = float(np.median([done / s / r for s, r in zip(times.seconds[OURS], rates, strict=True)]))
    useful = float(np.median([needed / s / r for s, r in zip(times.seconds[OURS], rates, strict=True)]))
    facts = {
        "tokens, each candidate alone": workload.naive_tokens,
        "tokens computed": len(tree.keys),
        "operations needed": f"{needed / 1e12:.3f} T",
        "operations done": f"{done / 1e12:.3f} T, {done / needed:.3f} of those needed",
        "matmul rate": f"{np.median(rates) / 1e9:.0f} GFLOP/s",
        "needed operations at the matmul rate": f"{useful:.0%} (done: {rate:.0%})",
    }
    return Report(workload.name, times, facts)


def run_cached(model: Model, workload: Workload, options: argparse.Namespace, dtype: torch.dtype) -> Report:
    """W2: W1 with its prefix held."""
    prefix = int(workload.candidates[0].readouts[0]) + 1 - SHAPES["W1"].step_tokens
    held = [Candidate(c.ids[: prefix + 1], np.array([prefix - 1], np.int32), c.pictures) for c in workload.candidates]
    waiting: list[TreeScorer] = []

    def again() -> float:
        started = time.perf_counter()
        found = score(model, workload.candidates, waiting.pop())
        assert len(found) == len(workload.candidates)
        taken = time.perf_counter() - started
        _prepare()
        return taken / max(time.perf_counter() - started, 1e-9)

    def _prepare() -> None:
        scorer = TreeScorer(model.packed, model.labels, _CACHE_BYTES)
        score(model, held[:1], scorer)
        waiting.append(scorer)

    _prepare()
    scorer = waiting[0]
    cold = score(model, workload.candidates)
    warm = score(model, workload.candidates, scorer)
    _same(cold, warm, dtype)
    waiting.clear()
    _prepare()
    times = interleave({CACHED: again, OURS: lambda: _once(score, model, workload)}, options.rounds)
    return Report("W2", times, {"prefix held": prefix})


def run_growing(model: Model, workload: Workload, options: argparse.Namespace, dtype: torch.dtype) -> Report:
    """W3: a trajectory scored after each of its steps, against once when it is finished."""
    finished = workload.candidates[-1]
    computed: list[int] = []

    def grow() -> float:
        scorer = TreeScorer(model.packed, model.labels, _CACHE_BYTES)
        computed.clear()
        for candidate in [*workload.candidates, finished]:
            prompts, features = prompts_of([candidate])
            scoring = scorer.begin(prompts)
            computed.append(sum(scoring.computed))
            run_through(scoring.run(features))
        return 1.0

    grow()
    expected = np.diff([0, *(int(candidate.readouts[-1]) + 1 for candidate in workload.candidates)]).tolist()
    assert computed == [*expected, 0], computed
    finish: Contestant = lambda: _once(_score_candidates, model, [finished])  # noqa: E731
    times = interleave({"after each step, and sent again": grow, OURS: finish}, options.rounds)
    return Report("W3", times, {"tokens computed by each call": computed})


_RUN: Mapping[str, Callable[[Model, Workload, argparse.Namespace, torch.dtype], Report]] = {
    "W1": run_packed,
    "W2": run_cached,
    "W3": run_growing,
    "W5": run_packed,
    "W6": run_packed,
}


def _score_candidates(model: Model, candidates: Sequence[Candidate]) -> list[Logits]:
    return score(model, candidates)


def _score_invariant(model: Model, candidates: Sequence[Candidate]) -> list[Logits]:
    return score(model, candidates, TreeScorer(model.packed, model.labels, invariant=True))


def _once(way: Callable[..., list[Logits]], model: Model, work: Workload | Sequence[Candidate]) -> float:
    way(model, work.candidates if isinstance(work, Workload) else work)
    return 1.0


def _baselines(model: Model, workload: Workload, names: Sequence[str]) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    for name in names:
        if name == "soft":
            sample, factor = soft_sample(workload)
            found[name] = partial(_scaled, soft, model, sample, factor)
        else:
            found[name] = partial(_scaled, BASELINES[name], model, workload, 1.0)
    return found


def _scaled(way: Callable[[Model, Workload], list[Logits]], model: Model, workload: Workload, factor: float) -> float:
    way(model, workload)
    return factor


def _vllm(stack: contextlib.ExitStack, workload: Workload, options: argparse.Namespace) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    for pooling in ("STEP", "ALL") if options.vllm else ():
        process = stack.enter_context(VLLM(options.vllm, pooling, workload, preload=options.preload))
        process.run()
        found[f"vLLM, {pooling} pooling"] = partial(_ask, process)
    return found


def _ask(process: VLLM) -> float:
    started = time.perf_counter()
    timing = process.run()
    assert timing.complete
    return timing.seconds / (time.perf_counter() - started)


def _check(model: Model, workload: Workload, names: Sequence[str] | set[str], dtype: torch.dtype) -> None:
    """The first candidate's numbers by every baseline against the engine's for the whole group."""
    ours = score(model, workload.candidates)
    first = Workload(workload.name, ((workload.candidates[0],),))
    for name in sorted(names):
        _same(BASELINES[name](model, first), ours[:1], dtype)


def _same(one: Sequence[Logits], other: Sequence[Logits], dtype: torch.dtype) -> None:
    for found, expected in zip(one, other, strict=True):
        assert np.abs(found - expected).max() < _TOLERANCE[dtype], np.abs(found - expected).max()


def table(reports: Sequence[Report], options: argparse.Namespace) -> str:
    """Markdown."""
    lines = [
        f"# The engine on a processor, {options.dtype}",
        "",
        f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}. A random decoder of",
        "VisualPRM's layout with 441 M parameters (hidden 1024, 16 layers, 16 heads, 8 key-value heads, vocabulary",
        "92,553), features of pictures given. Contestants take turns; times are medians, ratios medians of each",
        f"round's, with the least and the most of {options.rounds} rounds (W5 and W6: one round).",
        "",
        f"`python -m benchmarks.engine {' '.join(options.command)}`",
    ]
    for report in reports:
        lines += ["", f"## {report.workload}", "", *(f"- {name}: {fact}" for name, fact in report.facts.items()), ""]
        lines += ["| | s | times ours |", "|---|---|---|"]
        for name in report.times.seconds:
            if name.startswith("("):
                continue
            ratio, least, most = report.times.ratio(name, OURS)
            lines.append(f"| {name} | {report.times.median(name):.2f} | {ratio:.2f} ({least:.2f}–{most:.2f}) |")
    return "\n".join(lines) + "\n"


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({platform.machine()})"


def _cpuinfo() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(_RUN), default=list(_RUN))
    parser.add_argument("--baselines", nargs="*", choices=list(BASELINES), default=list(BASELINES))
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vllm", type=Path, help="the Python of vLLM's own environment")
    parser.add_argument("--preload", type=Path, nargs="*", default=[], help="libraries to load before vLLM")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.command = _told(options)
    start_tuned("benchmarks.engine")
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    model = random_model(FULL, dtype)
    reports = []
    with torch.inference_mode():
        for name in options.workloads:
            shape = "W1" if name == "W2" else name
            workload = build_workload(shape, SHAPES[shape], FULL, dtype)
            print(f"{name}: {len(workload.candidates)} candidates", flush=True)
            reports.append(_RUN[name](model, workload, options, dtype))
            _write(reports, options)
    print(table(reports, options))


def _told(options: argparse.Namespace) -> list[str]:
    """The command without folders that are this machine's."""
    told = ["--dtype", options.dtype, "--rounds", str(options.rounds), "--workloads", *options.workloads]
    return [*told, *(["--vllm", "DIR/bin/python"] if options.vllm else [])]


def _write(reports: Sequence[Report], options: argparse.Namespace) -> None:
    """After each workload, so that an interrupted run has told what it knew."""
    options.out.mkdir(parents=True, exist_ok=True)
    # A matrix unit moves every ratio: what the others spend on products shrinks, what all spend on the rest does not.
    unit = "-amx" if has_amx(torch.empty(0, dtype=getattr(torch, options.dtype))) else ""
    stem = options.out / f"engine-cpu-{options.dtype}{unit}"
    stem.with_suffix(".md").write_text(table(reports, options), encoding="utf-8")
    found = [{"workload": r.workload, "facts": r.facts, "seconds": r.times.seconds} for r in reports]
    results = stem.with_suffix(".json")
    results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    engine_picture.write(results)


if __name__ == "__main__":
    main()
