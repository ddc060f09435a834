"""Times one layer's attention of the engine benchmark's workloads on a GPU: the kernel against torch's way.

python -m benchmarks.tree_attention [--width 64 128] [--dtype bfloat16] [--workloads W1 W2] [--forms]

Checked against torch first. All rows, and the read-outs alone as in the last layer; W2 has W1's prefix in slots, W3 the
last of its steps with all before it in slots. `--forms` times other numbers of warps and stages, too.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from triton.testing import do_bench

from benchmarks.workloads import FULL, SHAPES, build_workload
from kernels.attention_tiles import FOLDED, Tiles, cut_tiles, most_folded
from kernels.dispatch import switched_off
from kernels.tree_attention import Held, Prepared, prepare, tile_rows, tree_attention
from kernels.triton import tree_attention as triton_attention
from kernels.triton.forms import Form
from models.attention_blocks import Block, plan_blocks, select_queries
from models.readout import prompts_of
from models.spec import DecoderSpec
from models.token_tree import Path, TokenTree, build_tree
from models.tree_scorer import Prompt

_CUDA = torch.device("cuda")
_TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
_WARPS, _STAGES = (4, 8), (2, 3, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Random queries, keys and values of a tree's rows, and of the slots before them."""

    tree: TokenTree
    groups: int
    q: torch.Tensor
    new: Held
    held: Held

    @property
    def read(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return np.unique(np.concatenate(self.tree.readouts))

    def blocks(self) -> list[Block]:
        return plan_blocks(self.tree, self.groups, tile_rows=tile_rows(self.q, self.groups))

    def operations(self, blocks: Sequence[Block]) -> int:
        """Two for each product of a query, and of a weight, with a key's or value's width."""
        leading = sum((block.last - block.first) * (len(block.keys) - block.tail) for block in blocks)
        seen = leading + sum(int(block.visible.sum()) for block in blocks)
        return 4 * seen * self.q.shape[1] * self.q.shape[2]


def tree_of(name: str) -> TokenTree:
    """A workload's tokens to compute, once what was scored before is in slots."""
    shape = SHAPES["W1" if name == "W2" else name]
    prompts, _ = prompts_of(build_workload(name, shape, replace(FULL, hidden_size=16), torch.float32).candidates)
    prefix = shape.opening + shape.picture + shape.question
    if name == "W3":
        prompts, held = prompts[-1:], len(prompts[-1].keys) - shape.step_tokens
    else:
        held = prefix if name == "W2" else 0
    return build_tree([_path(prompt, held) for prompt in prompts])


def _path(prompt: Prompt, held: int) -> Path:
    readouts = prompt.readouts[prompt.readouts >= held]
    return Path(prompt.keys, readouts, np.arange(held)[::-1].astype(np.int64))


def draw_layer(name: str, spec: DecoderSpec, dtype: torch.dtype) -> Layer:
    tree = tree_of(name)
    generator = torch.Generator(_CUDA).manual_seed(0)
    held = max(len(path.slots) for path in tree.paths)
    rows, width = len(tree.keys), spec.head_dim
    q = torch.randn(rows, spec.heads, width, generator=generator, device=_CUDA).mul_(width**-0.5).to(dtype)
    shapes = [(spec.kv_heads, tokens, width) for tokens in (rows, rows, held, held)]
    parts = [torch.randn(shape, generator=generator, device=_CUDA).to(dtype) for shape in shapes]
    return Layer(tree, spec.queries_per_kv_head, q, Held(*parts[:2]), Held(*parts[2:]))


def run(layer: Layer, q: torch.Tensor, prepared: Prepared) -> torch.Tensor:
    output = torch.empty_like(q)
    deque(tree_attention(q, layer.new, layer.held, prepared, output), 0)
    return output


def compare(name: str, layer: Layer, *, forms: bool) -> None:
    """A line for all rows and one for the read-outs."""
    for what in ("all rows", "read-outs"):
        q = layer.q if what == "all rows" else layer.q[torch.from_numpy(layer.read).to(_CUDA)]
        started = time.perf_counter()
        blocks = _chosen(layer, what)
        planned = time.perf_counter()
        ready = prepare(blocks, q, layer.groups)
        torch.cuda.synchronize()
        host_ms = [1e3 * seconds for seconds in (planned - started, time.perf_counter() - planned)]
        assert isinstance(ready, Tiles)
        with switched_off(["tree_attention"]):
            plain = prepare(_chosen(layer, what), q, layer.groups)
        ours, theirs = run(layer, q, ready), run(layer, q, plain)
        tolerance = _TOLERANCE[q.dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        kernel_us, torch_us = (_median(partial(run, layer, q, one)) for one in (ready, plain))
        rate = layer.operations(blocks) / kernel_us / 1e6
        print(
            f"{name:3} {what:9} rows {len(q):6} tiles {len(ready.table):5} folded {ready.folded:3}  "
            f"kernel {kernel_us:9.1f} µs  torch {torch_us:10.1f} µs  {torch_us / kernel_us:6.1f} ×  "
            f"{rate:6.1f} TFLOP/s  host: plan {host_ms[0]:.1f} ms, prepare {host_ms[1]:.1f} ms",
            flush=True,
        )
        if forms:
            for line in _forms(layer, q, blocks):
                print(line, flush=True)


def _chosen(layer: Layer, what: str) -> list[Block]:
    blocks = layer.blocks()
    return blocks if what == "all rows" else select_queries(blocks, layer.read)


def _forms(layer: Layer, q: torch.Tensor, blocks: Sequence[Block]) -> Iterator[str]:
    """Each form's time; one that does not fit the device says so."""
    for folded in [folded for folded in FOLDED if folded <= most_folded(q.dtype)]:
        tiles = cut_tiles(blocks, folded, layer.groups, _CUDA)
        picked = triton_attention.form_of(q.dtype, q.shape[2], layer.groups, folded)
        times = []
        for warps in _WARPS:
            for stages in _STAGES:
                form = replace(picked, warps=warps, stages=stages)
                mark = "*" if (warps, stages) == (picked.warps, picked.stages) else ""
                times.append(f"{warps}w{stages}s{mark} {_time_form(layer, q, tiles, form)}")
        yield f"      folded {folded:3}: " + "  ".join(times) + " µs"


def _time_form(layer: Layer, q: torch.Tensor, tiles: Tiles, form: Form) -> str:
    new, held, output = layer.new, layer.held, torch.empty_like(q)

    def launch() -> None:
        triton_attention.tree_attention(q, new.keys, new.values, held.keys, held.values, tiles, output, form)

    try:
        return f"{_median(launch):.1f}"
    except Exception as error:  # noqa: BLE001 - one form that a device lacks room for must not end the rest
        return type(error).__name__


def _median(call: Callable[[], object]) -> float:
    return float(do_bench(call, warmup=10, rep=40, return_mode="median")) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=[64, 128], help="of a head")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--workloads", nargs="+", default=["W1", "W2", "W3", "W5", "W6", "W4"])
    parser.add_argument("--forms", action="store_true")
    options = parser.parse_args()
    print(torch.cuda.get_device_name())
    for width in options.width:
        # 64 is the engine benchmark's decoder, 128 that of the released models: four query heads to a key-value head.
        heads = 16 if width == 64 else 32
        spec = replace(FULL, heads=heads, kv_heads=8, hidden_size=heads * width)
        print(f"{heads} heads of {width}, {spec.kv_heads} key-value heads, {options.dtype}")
        for name in options.workloads:
            compare(name, draw_layer(name, spec, getattr(torch, options.dtype)), forms=options.forms)


if __name__ == "__main__":
    main()
