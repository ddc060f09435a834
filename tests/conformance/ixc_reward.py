"""IXC-2.5-Reward's golden cases: token ids, layouts, pixels, features and scores, and what each refusal is."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch

from models.encoded import EncodedCandidate, MarkerCount
from models.ixc_reward.layout import Pixels, UnusablePicture
from models.ixc_reward.prompt import MARKER, MAX_TOKENS, ReferencePrompt, UnknownRole
from models.tiling import NotAPicture
from tests.conformance import ixc_served
from tests.conformance.ixc_in_process import Case, IXCRewardInProcess, max_tokens, messages_of, text_of
from tests.conformance.ixc_pictures import check_frames, check_geometry, check_picture
from tests.conformance.ixc_prompts import check_ids, tokenizer_rows
from tests.conformance.ixc_videos import check_file, check_sampling
from tests.conformance.over_http import OverHttp
from tests.conformance.report import Verdict

# bfloat16 has 8 bits of mantissa: how far the reference's own run stands from its float32 one, at most.
BF16_TOLERANCE = 0.05
_REFUSALS = (UnknownRole, UnusablePicture, NotAPicture, FileNotFoundError)


def verdicts(cases: Path, checkpoint: Path | None, url: str | None) -> Iterator[Verdict]:
    """One verdict a case. The kind of file is told by what is in it."""
    rows = [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines()]
    if url:
        if "type" not in rows[0]:
            raise SystemExit("ixc_reward: only the cases of whole conversations go over HTTP, leave --url away")
        with OverHttp(url) as server:
            yield from ixc_served.verdicts(rows, server, cases.parent)
        return
    if "parts" in rows[0]:
        yield from tokenizer_rows(rows, checkpoint or cases.parents[1] / "internlm2_tokenizer")
        return
    bf16 = "score_bf16_autocast" in rows[0]
    dtype = torch.bfloat16 if bf16 else torch.float32

    @cache
    def backend(name: str) -> IXCRewardInProcess:
        return IXCRewardInProcess(checkpoint or cases.parent / name, dtype, cases.parent)

    if bf16:
        yield from _bf16_rows(rows, inputs(cases), backend("tiny-ixc-reward"))
        return
    for case in rows:
        yield verdict_of(case, backend(case.get("checkpoint", "tiny-ixc-reward-560")))


def inputs(cases: Path) -> dict[str, Case]:
    """The cases that a derived file names only by id lie in `cases.jsonl` beside it."""
    lines = (cases.parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines)}


def is_slow(case: Case) -> bool:
    """Whether a case has all the tokens that a prompt may have."""
    return bool(case["expected"].get("length") == MAX_TOKENS)


def verdict_of(case: Case, backend: IXCRewardInProcess) -> Verdict:
    """Whatever the type of the case; one that the reference refuses must be refused here."""
    verdict = Verdict(case["id"])
    checks: Mapping[str, Callable[[Verdict, Case, IXCRewardInProcess], None]] = {
        "score": _check_score,
        "batch": _check_batch,
        "compare": _check_compare,
        "video_frames": _check_frames,
        "geometry": check_geometry,
        "layout": _check_layout,
        "video_file": check_file,
        "video_sampling": lambda verdict, case, _: check_sampling(verdict, case),
    }
    error = case["expected"].get("error")
    try:
        checks[case["type"]](verdict, case, backend)
    except _REFUSALS as refusal:
        verdict.note = f"the reference raises {error}; refused: {type(refusal).__name__}: {refusal}"
        if error is None:
            verdict.differences.append(f"refused: {refusal}")
        return verdict
    if error is not None:
        verdict.differences.append(f"scored, though the reference raises {error}")
    return verdict


def _check_score(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    expected, options = case["expected"], case["options"]
    pictures = backend.pictures(case["images"], options)
    for name, picture in zip(case["images"], expected.get("images", ()), strict=True):
        check_picture(verdict, backend, name, picture)
    encoded = backend.encode(case["conversation"], pictures, options)
    check_ids(verdict, encoded, max_tokens(options), expected)
    _check_text(verdict, case, pictures)
    _check_served(verdict, case, backend, encoded, pictures)
    candidate = backend.candidate(encoded.cut(max_tokens(options)), pictures)
    verdict.closely("score", backend.score([candidate]), [expected["score"]])
    # It holds the whole matrix of attention.
    if len(candidate.ids) < 5_000:
        verdict.closely("plain score", [backend.score_plain(candidate)], [expected["score"]])


def _check_text(verdict: Verdict, case: Case, pictures: Sequence[Pixels]) -> None:
    text = text_of(case["conversation"])
    text = MARKER + text if len(pictures) == 1 and MARKER not in text else text
    digest = hashlib.sha256(text.encode()).hexdigest()
    verdict.exactly("prompt_sha256", digest, case["expected"]["prompt_sha256"])


def _check_served(
    verdict: Verdict, case: Case, backend: IXCRewardInProcess, encoded: ReferencePrompt, pictures: Sequence[Pixels]
) -> None:
    """What a service is to encode is what the reference does, wherever that reads the score at the reward token."""
    if isinstance(case["conversation"], str):
        return
    limit = max_tokens(case["options"])
    tokens = [backend.tokens(pixels) for pixels in pictures]
    messages = messages_of(case["conversation"])
    try:
        group = backend.prompt.encode_conversation(messages, tokens, "parse", limit)
    except MarkerCount as error:
        verdict.note = f"the reference warns; refused: {error}"
        verdict.exactly("warned_count_mismatch", True, case["expected"]["warned_count_mismatch"])
        return
    candidate = group.candidates[0]
    if case["expected"]["warned_count_mismatch"]:
        verdict.note = "the reference warns; served with the pictures first"
        verdict.exactly("warned without a marker", MARKER in text_of(case["conversation"]), False)
    elif isinstance(candidate, EncodedCandidate):
        verdict.exactly("served ids", group.ids(0).tolist(), encoded.ids.tolist())
        verdict.exactly("served pictures", group.pictures, encoded.pictures)
        verdict.exactly("served read-out", candidate.readouts.tolist(), [len(encoded.ids) - 1])
    else:
        verdict.note = f"the reference cuts; {candidate.reason}: {candidate.detail}"
        verdict.exactly("too long", len(encoded.ids) > limit, True)


def _check_batch(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    """Each as it scores alone: what the reference's padding and its shared rotary table change is its own affair."""
    expected = case["expected"]
    # The reference's zip drops the longer list's tail.
    pairs = zip(case["conversations"], case["images"], strict=False)
    candidates = [backend.ready(talk, names, case["options"]) for talk, names in pairs]
    scores = backend.score(candidates)
    verdict.exactly("lengths", [len(candidate.ids) for candidate in candidates], expected["lengths"])
    verdict.closely("single", scores, expected["single"][: len(scores)])
    if "rank" in expected and "ntk" not in case["id"]:
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        verdict.exactly("rank", order, expected["rank"])


def _check_compare(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    sides = [(case[f"conversation{side}"], case[f"images{side}"]) for side in (1, 2)]
    scores = backend.score([backend.ready(talk, names, case["options"]) for talk, names in sides])
    verdict.closely("scores", scores, case["expected"]["scores"])
    verdict.exactly("first_better", scores[0] > scores[1], case["expected"]["first_better"])


def _check_frames(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    pixels = check_frames(verdict, case, backend)
    candidate = backend.candidate(backend.encode(case["conversation"], [pixels], case["options"]), [pixels])
    verdict.closely("score", backend.score([candidate]), [case["expected"]["score"]])


def _check_layout(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    check_picture(verdict, backend, case["image"], case["expected"])


def _bf16_rows(rows: Sequence[Case], inputs: Mapping[str, Case], backend: IXCRewardInProcess) -> Iterator[Verdict]:
    """The reference's own bf16 run is one rounding of the float32 truth, ours another: both are compared with it."""
    for row in rows:
        verdict, case = Verdict(row["id"]), inputs[row["id"]]
        (score,) = backend.score([backend.ready(case["conversation"], case["images"], case["options"])])
        verdict.closely("score", [score], [row["score_bf16_autocast"]], BF16_TOLERANCE)
        verdict.off_float32 = abs(score - row["score_float32"])
        theirs = abs(row["score_bf16_autocast"] - row["score_float32"])
        verdict.note = f"off float32 by {verdict.off_float32:.4f}, the reference by {theirs:.4f}"
        yield verdict
