"""Both families' golden scores through the models alone: on a GPU, or through interpreted kernels.

python -m tests.conformance.by_models visualprm [--golden ../shared/golden] [--device cuda] [--dtype bfloat16]
                                                [--every 3] [--interpreted] [--progress]

It needs neither the service nor what that stands on. `--interpreted` wants TRITON_INTERPRET=1.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kernels.dispatch import interpreting
from models.candidate import Candidate, PlacedPicture
from models.ixc_reward.frames import compose
from models.ixc_reward.layout import lay_out_frames, pad
from models.tiling import cut, open_rgb
from models.tokenizer import load_tokenizer
from models.visual_prm import network
from models.visual_prm.prompt import StepPrompt
from models.visual_prm.steps import join_steps, merge_steps, split_steps
from tests.conformance.ixc_in_process import IXCRewardInProcess
from tests.conformance.report import TOLERANCE, Verdict, print_report

Case = Mapping[str, Any]
GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
FAMILIES = ("visualprm", "ixc_reward")
# How far a bfloat16 run may be from the reference's own.
BF16_TOLERANCE = 0.05
_MOST_TOKENS = 65_536


def verdicts(
    family: str, golden: Path, device: torch.device, dtype: torch.dtype, every: int = 1, most_tokens: int = _MOST_TOKENS
) -> Iterator[Verdict]:
    """One verdict for every `every`-th case that has scores and is not longer."""
    find = (_visual_prm if family == "visualprm" else _ixc_reward)(golden / family, device, dtype)
    for case in chosen(family, golden, dtype, every, most_tokens):
        verdict = Verdict(case["id"])
        try:
            with torch.inference_mode():
                found, expected = find(case)
            tolerance = TOLERANCE if dtype == torch.float32 else BF16_TOLERANCE
            verdict.closely("scores", found, expected, tolerance)
        except Exception as error:  # noqa: BLE001 - one case must not end the run
            verdict.differences.append(f"{type(error).__name__}: {error}")
        yield verdict


def chosen(family: str, golden: Path, dtype: torch.dtype, every: int, most_tokens: int) -> list[Case]:
    """The cases that `verdicts` goes through, in order."""
    return [case for case in _cases(golden / family, family, dtype) if _length(case) <= most_tokens][::every]


def _length(case: Case) -> int:
    """Tokens of a case's longest prompt, as far as the file says it; of a group a quarter of its characters."""
    expected = case["expected"]
    lengths: list[int] = [expected.get("length", 0), *expected.get("lengths", ())]
    lengths.append(sum(map(len, case.get("responses", ()))) // 4)
    return max(*lengths, len(expected.get("soft_v2", {}).get("input_ids", ())))


def _cases(folder: Path, family: str, dtype: torch.dtype) -> list[Case]:
    """Those with scores; in bfloat16 those that the reference ran in it, with its numbers."""
    cases = [case for case in _lines(folder / "cases.jsonl") if _is_scored(case)]
    if dtype == torch.bfloat16:
        name, field = {
            "visualprm": ("bf16_soft_v2", "soft_v2_bf16"),
            "ixc_reward": ("bf16_autocast", "score_bf16_autocast"),
        }[family]
        halves = {row["id"]: row[field] for row in _lines(folder / f"{name}.jsonl")}
        return [{**case, "half": halves[case["id"]]} for case in cases if case["id"] in halves]
    if family == "ixc_reward":
        cases += [case for case in _lines(folder / "cases_560.jsonl") if _is_scored(case)]
    return cases


def _lines(file: Path) -> list[Case]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _is_scored(case: Case) -> bool:
    """A layout has no score, and what the reference refuses has none either."""
    expected = case["expected"]
    if case["type"] not in ("bon", "score", "batch", "compare", "video_frames") or "error" in expected:
        return False
    return "soft_v2" not in expected or "scores" in expected["soft_v2"]


Find = Callable[[Case], tuple[Sequence[float], Sequence[float]]]


def _visual_prm(folder: Path, device: torch.device, dtype: torch.dtype) -> Find:
    checkpoint = folder / ("tiny-visualprm" if dtype == torch.float32 else "tiny-visualprm-bf16")
    model = network.load(checkpoint, dtype, device)
    prompt = StepPrompt(model.spec, load_tokenizer(checkpoint))

    def find(case: Case) -> tuple[list[float], list[float]]:
        expected = case["expected"]
        grids = [tuple(grid) for grid in expected.get("tile_grid_wh", ())]
        images = [open_rgb((folder / name).read_bytes()) for name in case["images"]]
        tiles = [cut(i, g, model.spec.tile_size, model.spec.thumbnail) for i, g in zip(images, grids, strict=True)]
        features = [network.picture_features(model, part) for part in tiles]
        responses = case["responses"] if case["type"] == "bon" else [case["response"]]
        steps = [_steps(response, case["options"]) for response in responses]
        group = prompt.encode_group(case["question"], [len(part) for part in tiles], steps, "parse", _MOST_TOKENS)
        placed = tuple(PlacedPicture(run.offset, rows) for run, rows in zip(group.pictures, features, strict=True))
        candidates = [
            Candidate(group.ids(index), one.readouts, placed)  # type: ignore[union-attr]
            for index, one in enumerate(group.candidates)
        ]
        logits = np.concatenate(network.score(model, candidates)).astype(np.float64)
        found = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
        wanted = expected["step_scores"]["soft_v2"] if case["type"] == "bon" else [expected["soft_v2"]["scores"]]
        return found.tolist(), case.get("half") or [score for scores in wanted for score in scores]

    return find


def _steps(response: str, options: Case) -> list[str]:
    steps = [response] if options.get("orm") else split_steps(response)
    return join_steps(steps, merge_steps(steps, options.get("max_steps")))


def _ixc_reward(folder: Path, device: torch.device, dtype: torch.dtype) -> Find:
    backends: dict[str, IXCRewardInProcess] = {}

    def find(case: Case) -> tuple[list[float], list[float]]:
        full_tiles = case["id"].startswith("560-")
        name = case.get("checkpoint", "tiny-ixc-reward-560" if full_tiles else "tiny-ixc-reward")
        if name not in backends:
            backends[name] = IXCRewardInProcess(folder / name, dtype, folder, device)
        backend, expected = backends[name], case["expected"]
        if case["type"] == "video_frames":
            canvas = compose([backend.open(frame) for frame in case["frames"]], backend.spec.tile_size)
            pixels = pad(canvas, lay_out_frames(*canvas.size, backend.spec.tile_size))
            candidates = [backend.candidate(backend.encode(case["conversation"], [pixels], case["options"]), [pixels])]
        elif case["type"] == "compare":
            talks = [(case[f"conversation{side}"], case[f"images{side}"]) for side in (1, 2)]
            candidates = [backend.ready(talk, names, case["options"]) for talk, names in talks]
        else:
            talks = (
                list(zip(case["conversations"], case["images"], strict=False))
                if case["type"] == "batch"
                else [(case["conversation"], case["images"])]
            )
            candidates = [backend.ready(talk, names, case["options"]) for talk, names in talks]
        found = backend.score(candidates)
        wanted = {"batch": "single", "compare": "scores"}.get(case["type"])
        if "half" in case:
            return found, [case["half"]]
        return found, expected[wanted][: len(found)] if wanted else [expected["score"]]

    return find


def _told(found: Iterator[Verdict], family: str, total: int) -> Iterator[Verdict]:
    """Each with a line about it on standard error."""
    started = time.monotonic()
    for number, verdict in enumerate(found, 1):
        outcome = f"worst {verdict.worst:.1e}" if verdict.passed else "FAILED"
        seconds = time.monotonic() - started
        print(f"{family} {number}/{total}, {seconds:.0f} s: {verdict.id} {outcome}", file=sys.stderr, flush=True)
        yield verdict


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--golden", type=Path, default=GOLDEN)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--every", type=int, default=1, help="every so many cases alone")
    parser.add_argument("--most-tokens", type=int, default=_MOST_TOKENS, help="longer prompts are left out")
    parser.add_argument("--interpreted", action="store_true", help="a processor's tensors through the kernels")
    parser.add_argument("--progress", action="store_true", help="a line for each case, on standard error")
    options = parser.parse_args(arguments)
    # TensorFloat-32 keeps ten bits of a float32's mantissa.
    torch.backends.cudnn.allow_tf32 = False
    dtype, device = getattr(torch, options.dtype), torch.device(options.device)
    found = verdicts(options.family, options.golden, device, dtype, options.every, options.most_tokens)
    if options.progress:
        total = len(chosen(options.family, options.golden, dtype, options.every, options.most_tokens))
        found = _told(found, options.family, total)
    with interpreting() if options.interpreted else contextlib.nullcontext():
        return print_report(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
