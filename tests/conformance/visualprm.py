"""VisualPRM's golden cases: token ids, tiles, pixels, features and scores, and how each refusal is answered."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.tiling import cut, open_rgb
from models.tokenizer import Segment, load_tokenizer
from models.visual_prm import network
from service.errors import ServiceError
from steelyard.schema import ScoreStepsRequest
from tests.conformance.in_process import VisualPRMInProcess
from tests.conformance.over_http import OverHttp, Refused
from tests.conformance.report import Verdict

Case = Mapping[str, Any]
Backend = VisualPRMInProcess | OverHttp
# bfloat16 has 8 bits of mantissa: how far the reference's own run stands from its float32 one, at most.
BF16_TOLERANCE = 0.05


def verdicts(cases: Path, checkpoint: Path | None, url: str | None) -> Iterator[Verdict]:
    """One verdict a case. The kind of file is told by what is in it."""
    text = cases.read_text(encoding="utf-8")
    rows = [json.loads(text)] if cases.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    if "text" in rows[0]:
        yield from _tokenizer_rows(rows, checkpoint or cases.parents[1] / "internlm2_tokenizer")
        return
    bf16 = "soft_v2_bf16" in rows[0]
    default = cases.parent / ("tiny-visualprm-bf16" if bf16 else "tiny-visualprm")
    backend = OverHttp(url) if url else VisualPRMInProcess(checkpoint or default, "bfloat16" if bf16 else "float32")
    with backend:
        if bf16:
            yield from _bf16_rows(rows, inputs(cases), backend, cases.parent)
        elif "soft_v2_fresh_process" in rows[0]:
            yield _stateful_rope(rows[0], inputs(cases), backend, cases.parent)
        else:
            for case in rows:
                yield verdict_of(case, backend, cases.parent)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference says of one response: its scores, or None when both of its versions raise."""

    scores: Sequence[float] | None
    logits: Sequence[Sequence[float]] | None
    ids: Sequence[int] | None
    readouts: Sequence[int] | None


def request_of(case: Case, folder: Path) -> ScoreStepsRequest:
    """A golden case as a caller would send it."""
    options = case["options"]
    return ScoreStepsRequest(
        question=case["question"],
        images=[_data_url(folder / name) for name in case["images"]],
        candidates=case["responses"] if case["type"] == "bon" else [case["response"]],
        mode="whole" if options.get("orm") else "steps",
        max_steps=options.get("max_steps"),
        max_tiles=options.get("max_num"),
    )


def is_scorable(case: Case) -> bool:
    """Whether the reference has numbers for it, in either version."""
    return case["type"] == "bon" or _expected(case["expected"]).scores is not None


def verdict_of(case: Case, backend: Backend, folder: Path) -> Verdict:
    """Whatever the type of the case; one that the reference refuses must be refused here."""
    verdict = Verdict(case["id"])
    request = request_of(case, folder)
    try:
        if isinstance(backend, VisualPRMInProcess) and case["images"]:
            _check_pictures(verdict, case, backend, folder)
        if case["type"] == "bon":
            _check_group(verdict, case, backend, request)
        else:
            _check_response(verdict, case, backend, request)
    except Exception as error:  # noqa: BLE001 - one case must not end the run
        verdict.differences.append(f"{type(error).__name__}: {error}")
    return verdict


def _check_response(verdict: Verdict, case: Case, backend: Backend, request: ScoreStepsRequest) -> None:
    expected = _expected(case["expected"])
    if expected.scores is None:
        _check_refusal(verdict, case, backend, request)
        return
    if isinstance(backend, VisualPRMInProcess) and expected.ids is not None:
        ids, readouts = backend.prompt(request)
        verdict.exactly("input_ids", ids, list(expected.ids))
        if expected.readouts is not None:
            verdict.exactly("read-outs", readouts, list(expected.readouts))
    result = backend.score(request).results[0]
    verdict.exactly("status", result.status, "ok")
    verdict.closely("step_scores", result.step_scores, expected.scores)
    if expected.logits is not None:
        verdict.closely("step_logits", result.step_logits, [plus - minus for plus, minus in expected.logits])


def _expected(expected: Case) -> Expected:
    """soft_v2's answer; where only that raises, the number is well defined and is soft's."""
    v2, soft = expected["soft_v2"], expected["soft"]
    if "scores" in v2:
        return Expected(v2["scores"], v2["logits_plus_minus"], v2["input_ids"], v2.get("placeholder_idx"))
    if "scores" in soft:
        # soft's last prompt ends where the last answer begins; v2's goes on with the placeholder's turn.
        return Expected(soft["scores"], soft["logits_plus_minus"], v2.get("input_ids"), None)
    return Expected(None, None, None, None)


def _check_refusal(verdict: Verdict, case: Case, backend: Backend, request: ScoreStepsRequest) -> None:
    """Where the reference raises: a refusal or a status. Several pictures without a marker are put first instead."""
    try:
        answer = backend.score(request)
    except (ServiceError, Refused) as error:
        verdict.note = f"the reference raises; refused: {error}"
        return
    result = answer.results[0]
    verdict.note = f"the reference raises; status {result.status}: {result.detail}"
    if "<image>" in case["question"] or len(case["images"]) < 2:
        verdict.exactly("status", result.status, "refused")
        verdict.exactly("score", (result.score, result.step_scores, result.step_logits), (None, None, None))
        return
    marked = request.model_copy(update={"question": "<image>\n" * len(case["images"]) + case["question"]})
    verdict.note = "the reference raises; scored as if the pictures' markers had come first"
    verdict.closely("step_scores", result.step_scores, backend.score(marked).results[0].step_scores or [])


def _check_group(verdict: Verdict, case: Case, backend: Backend, request: ScoreStepsRequest) -> None:
    expected = case["expected"]
    for version, mode in (("soft_v2", "steps"), ("orm_soft", "whole")):
        answer = backend.score(request.model_copy(update={"mode": mode}))
        for index, result in enumerate(answer.results):
            where = f"{version} response {index}"
            verdict.closely(f"{where} step_scores", result.step_scores, expected["step_scores"][version][index])
        verdict.closely(f"{version} scores", [r.score or -1.0 for r in answer.results], expected["scores"][version])
        verdict.exactly(f"{version} ranking", answer.ranking, expected["ranking_indices"][version])
        verdict.exactly(f"{version} best", answer.best, expected["best_index"][version])


def _check_pictures(verdict: Verdict, case: Case, backend: VisualPRMInProcess, folder: Path) -> None:
    expected, spec = case["expected"], backend.model.spec
    request = request_of(case, folder)
    grids = backend.grids(request)
    verdict.exactly("tile_grid_wh", [list(grid) for grid in grids], expected["tile_grid_wh"])
    images = [open_rgb((folder / name).read_bytes()) for name in case["images"]]
    tiles = [cut(i, grid, spec.tile_size, spec.thumbnail) for i, grid in zip(images, grids, strict=True)]
    verdict.exactly("num_patches_list", [len(part) for part in tiles], expected["num_patches_list"])
    together = np.ascontiguousarray(np.concatenate(tiles))
    verdict.exactly(
        "tiles_rgb_u8_sha256", hashlib.sha256(together.tobytes()).hexdigest(), expected["tiles_rgb_u8_sha256"]
    )
    pixels = network.normalise(torch.from_numpy(together))
    _check_statistics(verdict, "pixel_values", pixels.numpy(), expected["pixel_values"], 1e-7)
    features = network.picture_features(backend.model, together).view(len(together), spec.tokens_per_tile, -1)
    _check_statistics(verdict, "vit_features", features.numpy(), expected["vit_features"], 1e-5)


def _check_statistics(
    verdict: Verdict, what: str, values: npt.NDArray[np.float32], expected: Case, tolerance: float
) -> None:
    """Sums are in float64, the deviation is the sample's; first and last values were written with seven decimals."""
    wide = values.astype(np.float64)
    verdict.exactly(f"{what} shape", list(values.shape), expected["shape"])
    found = [wide.mean(), wide.std(ddof=1), np.abs(wide).sum()]
    wanted = [expected["mean"], expected["std"], expected["abs_sum"]]
    verdict.nearly(f"{what} mean, std, abs_sum", found, wanted, tolerance)
    verdict.nearly(f"{what} first", wide.flatten()[:8], expected["first"], tolerance)
    verdict.nearly(f"{what} last", wide.flatten()[-8:], expected["last"], tolerance)
    verdict.nearly(f"{what} tile_means", wide.reshape(len(wide), -1).mean(1), expected["tile_means"], tolerance)


def _tokenizer_rows(rows: Sequence[Case], directory: Path) -> Iterator[Verdict]:
    tokenizer = load_tokenizer(directory)
    for row in rows:
        verdict = Verdict(row["id"])
        ids = tokenizer.encode([Segment(row["text"], trusted=True)]).ids
        verdict.exactly("input_ids", [*tokenizer.bos.tolist(), *ids.tolist()], row["input_ids"])
        yield verdict


def _bf16_rows(rows: Sequence[Case], inputs: Mapping[str, Case], backend: Backend, folder: Path) -> Iterator[Verdict]:
    """The reference's own bf16 run is one rounding of the float32 truth, ours another: both are compared with it."""
    for row in rows:
        verdict, case = Verdict(row["id"]), inputs[row["id"]]
        scores = backend.score(request_of(case, folder)).results[0].step_scores or []
        exact = _expected(case["expected"]).scores or []
        verdict.closely("step_scores", scores, row["soft_v2_bf16"], BF16_TOLERANCE)
        ours = max((abs(one - other) for one, other in zip(scores, exact, strict=True)), default=0.0)
        verdict.off_float32 = ours
        verdict.note = f"off float32 by {ours:.4f}, the reference by {row['max_abs_diff_vs_float32']:.4f}"
        yield verdict


def _stateful_rope(row: Case, inputs: Mapping[str, Case], backend: Backend, folder: Path) -> Verdict:
    """Before, after and beside a prompt past the limit, a short one has its fresh-process scores."""
    verdict = Verdict("stateful_rope")
    short, long = (request_of(inputs[name], folder) for name in (row["case"], "long-ntk"))
    for when in ("before", "after"):
        scores = backend.score(short).results[0].step_scores
        verdict.closely(f"{when} a long prompt", scores, row["soft_v2_fresh_process"])
        backend.score(long)
    beside = backend.score_together([long, short])[1].results[0].step_scores
    verdict.closely("in one batch with a long prompt", beside, row["soft_v2_fresh_process"])
    return verdict


def inputs(cases: Path) -> dict[str, Case]:
    """The cases that a derived file names only by id lie in `cases.jsonl` beside it."""
    lines = (cases.parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines)}


def _data_url(path: Path) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(path.read_bytes()).decode()
