"""IXC-2.5-Reward's golden cases: token ids, layouts, pixels, features and scores, and what each refusal is."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sentencepiece import SentencePieceProcessor

from models.candidate import Candidate, PlacedPicture
from models.encoded import EncodedCandidate, MarkerCount
from models.ixc_reward import network
from models.ixc_reward.frames import compose
from models.ixc_reward.layout import (
    FORMATS,
    MEAN,
    STD,
    Layout,
    Pixels,
    UnusablePicture,
    count_tokens,
    lay_out,
    lay_out_frames,
    most_across,
    pad,
    tiles_allowed,
)
from models.ixc_reward.prompt import MARKER, MAX_TOKENS, Message, OutcomePrompt, ReferencePrompt, UnknownRole, render
from models.ixc_reward.spec import read_spec
from models.tiling import NotAPicture, open_rgb, read_header
from models.tokenizer import Segment, Tokenizer, load_tokenizer
from models.vision import normalise
from tests.conformance.report import Verdict

Case = Mapping[str, Any]
# bfloat16 has 8 bits of mantissa: how far the reference's own run stands from its float32 one, at most.
BF16_TOLERANCE = 0.05
_REFUSALS = (UnknownRole, UnusablePicture, NotAPicture, FileNotFoundError)
_MOST_PIXELS = 10**8
_CHATML = ["plugin", "interpreter", "action_end", "action_start", "im_end", "im_start"]


class IXCRewardInProcess:
    """One checkpoint, scored in this process; `folder` is where the cases' pictures lie."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype, folder: Path) -> None:
        self.spec = read_spec(checkpoint)
        self.prompt = OutcomePrompt(self.spec, load_tokenizer(checkpoint))
        self.model = network.load(checkpoint, dtype, torch.device("cpu"))
        self._folder = folder
        self._features: dict[str, torch.Tensor] = {}

    def open(self, name: str) -> Image.Image:
        """Raises NotAPicture for what the reference does not open."""
        content = (self._folder / name).read_bytes()
        read_header(content, _MOST_PIXELS, FORMATS)
        return open_rgb(content)

    def pictures(self, names: Sequence[str], options: Case) -> list[Pixels]:
        """Each padded at the tiles that it may have beside the others."""
        tiles = tiles_allowed(len(names), options.get("hd_num"))
        images = [self.open(name) for name in names]
        return [pad(image, lay_out(*image.size, self.spec.tile_size, tiles)) for image in images]

    def tokens(self, pixels: Pixels) -> int:
        height, width = (side // self.spec.tile_size for side in pixels.shape[:2])
        return count_tokens(width, height, self.spec.tile_side)

    def encode(self, conversation: object, pictures: Sequence[Pixels], options: Case) -> ReferencePrompt:
        """By the reference's own rules. Raises UnknownRole."""
        text = conversation if isinstance(conversation, str) else render(messages_of(conversation))
        tokens = [self.tokens(pixels) for pixels in pictures]
        return self.prompt.encode_reference(text, tokens, options.get("max_length", MAX_TOKENS))

    @torch.inference_mode()
    def features(self, pixels: Pixels) -> torch.Tensor:
        key = hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).hexdigest()
        if key not in self._features:
            self._features[key] = network.picture_features(self.model, pixels)
        return self._features[key]

    def candidate(self, encoded: ReferencePrompt, pictures: Sequence[Pixels]) -> Candidate:
        placed = tuple(
            PlacedPicture(run.offset, self.features(pixels)[: run.tokens])
            for run, pixels in zip(encoded.pictures, pictures, strict=False)
        )
        return Candidate(encoded.ids, np.array([len(encoded.ids) - 1], np.int32), placed)

    @torch.inference_mode()
    def score(self, candidates: Sequence[Candidate]) -> list[float]:
        """All in one packed forward."""
        return [float(scores[0, 0]) for scores in network.score(self.model, candidates)]

    @torch.inference_mode()
    def score_plain(self, candidate: Candidate) -> float:
        return network.score_plain(self.model, candidate).item()

    def ready(self, conversation: object, names: Sequence[str], options: Case) -> Candidate:
        pictures = self.pictures(names, options)
        return self.candidate(self.encode(conversation, pictures, options), pictures)


def verdicts(cases: Path, checkpoint: Path | None, url: str | None) -> Iterator[Verdict]:
    """One verdict a case. The kind of file is told by what is in it."""
    if url:
        raise SystemExit("ixc_reward: not over HTTP yet, leave --url away")
    rows = [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines()]
    if "parts" in rows[0]:
        yield from _tokenizer_rows(rows, checkpoint or cases.parents[1] / "internlm2_tokenizer")
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
        yield _verdict(case, backend(case.get("checkpoint", "tiny-ixc-reward-560")))


def inputs(cases: Path) -> dict[str, Case]:
    """The cases that a derived file names only by id lie in `cases.jsonl` beside it."""
    lines = (cases.parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines)}


def is_slow(case: Case) -> bool:
    """Whether a case has the whole 16,384 tokens."""
    return bool(case["expected"].get("length") == MAX_TOKENS)


def messages_of(conversation: Any) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in conversation]


def _verdict(case: Case, backend: IXCRewardInProcess) -> Verdict:
    verdict = Verdict(case["id"])
    if case["type"] in ("video_file", "video_sampling"):
        verdict.note = "not checked: no video is decoded here"
        return verdict
    checks = {
        "score": _check_score,
        "batch": _check_batch,
        "compare": _check_compare,
        "video_frames": _check_frames,
        "geometry": _check_geometry,
        "layout": _check_layout,
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
        _check_picture(verdict, backend, name, picture)
    encoded = backend.encode(case["conversation"], pictures, options)
    _check_ids(verdict, encoded, expected)
    _check_text(verdict, case, pictures)
    _check_served(verdict, case, backend, encoded, pictures)
    candidate = backend.candidate(encoded, pictures)
    verdict.closely("score", backend.score([candidate]), [expected["score"]])
    # It holds the whole matrix of attention.
    if len(candidate.ids) < 5_000:
        verdict.closely("plain score", [backend.score_plain(candidate)], [expected["score"]])


def _check_ids(verdict: Verdict, encoded: ReferencePrompt, expected: Case) -> None:
    verdict.exactly("length_before_truncation", encoded.uncut, expected["length_before_truncation"])
    verdict.exactly("length", len(encoded.ids), expected["length"])
    verdict.exactly("im_mask_runs", _mask_runs(encoded), expected["im_mask_runs"])
    verdict.exactly("readout_index", len(encoded.ids) - 1, expected["readout_index"])
    if encoded.uncut != len(encoded.ids):
        # The reference lists its ids before the cut.
        found = _listed(encoded)[: -1 if encoded.pictures else None]
        kept = _known(expected)[: len(found)]
        verdict.exactly("ids before the cut", found[: len(kept)], kept)
        return
    listed = _listed(encoded)
    if "token_ids_with_images" in expected:
        verdict.exactly("token_ids_with_images", listed, expected["token_ids_with_images"])
    else:
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        verdict.exactly("token_ids_sha256", digest, expected["token_ids_sha256"])


def _known(expected: Case) -> list[int | str]:
    known: list[int | str] = expected.get("token_ids_with_images") or expected["token_ids_head"]
    return known


def _listed(encoded: ReferencePrompt) -> list[int | str]:
    """Ids in order, each picture as `img*N`."""
    listed: list[int | str] = []
    done = 0
    for run in encoded.pictures:
        listed += [*encoded.ids[done : run.offset].tolist(), f"img*{run.tokens}"]
        done = run.offset + run.tokens
    return listed + encoded.ids[done:].tolist()


def _mask_runs(encoded: ReferencePrompt) -> list[list[int]]:
    mask = np.zeros(len(encoded.ids), np.int64)
    for run in encoded.pictures:
        mask[run.offset : run.offset + run.tokens] = 1
    ends = [*np.flatnonzero(np.diff(mask)).tolist(), len(mask) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [[int(mask[start]), end - start + 1] for start, end in zip(starts, ends, strict=True)]


def _check_text(verdict: Verdict, case: Case, pictures: Sequence[Pixels]) -> None:
    conversation = case["conversation"]
    text = conversation if isinstance(conversation, str) else render(messages_of(conversation))
    text = MARKER + text if len(pictures) == 1 and MARKER not in text else text
    digest = hashlib.sha256(text.encode()).hexdigest()
    verdict.exactly("prompt_sha256", digest, case["expected"]["prompt_sha256"])


def _check_served(
    verdict: Verdict, case: Case, backend: IXCRewardInProcess, encoded: ReferencePrompt, pictures: Sequence[Pixels]
) -> None:
    """What a service is to encode is what the reference does, wherever that reads the score at the reward token."""
    if isinstance(case["conversation"], str):
        return
    limit = case["options"].get("max_length", MAX_TOKENS)
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
        verdict.exactly("warned without a marker", MARKER in "".join(m.content for m in messages), False)
    elif isinstance(candidate, EncodedCandidate):
        verdict.exactly("served ids", group.ids(0).tolist(), encoded.ids.tolist())
        verdict.exactly("served pictures", group.pictures, encoded.pictures)
        verdict.exactly("served read-out", candidate.readouts.tolist(), [len(encoded.ids) - 1])
    else:
        verdict.note = f"the reference cuts; {candidate.reason}: {candidate.detail}"
        verdict.exactly("too long", encoded.uncut > limit, True)


def _check_picture(verdict: Verdict, backend: IXCRewardInProcess, name: str, expected: Case) -> None:
    image, tile_size = backend.open(name), backend.spec.tile_size
    layout = lay_out(*image.size, tile_size, expected["hd_num_used"])
    _check_layout_of(verdict, image, layout, expected, backend)
    pixels = pad(image, layout)
    if "image_embeds" in expected:
        _check_features(verdict, backend, pixels, expected["image_embeds"])


def _check_layout_of(
    verdict: Verdict, image: Image.Image, layout: Layout, expected: Case, backend: IXCRewardInProcess
) -> None:
    ratio = max(image.size) / min(image.size)
    pixels = pad(image, layout)
    verdict.exactly("scale_cap", most_across(ratio, expected["hd_num_used"]), expected["scale_cap"])
    verdict.exactly("scale", max(layout.columns, layout.rows), expected["scale"])
    verdict.exactly("resized_wh", list(layout.resized), expected["resized_wh"])
    verdict.exactly("padded_wh", list(layout.padded), expected["padded_wh"])
    verdict.exactly("grid_cols_rows", [layout.columns, layout.rows], expected["grid_cols_rows"])
    verdict.exactly("n_tokens", backend.tokens(pixels), expected["n_tokens"])
    verdict.exactly("rgb_u8_sha256", _digest(np.asarray(image)), expected["rgb_u8_sha256"])
    verdict.exactly("padded_u8_sha256", _digest(pixels), expected["padded_u8_sha256"])
    _check_pixels(verdict, pixels, expected, backend.spec.tile_size)


def _check_pixels(verdict: Verdict, pixels: Pixels, expected: Case, tile_size: int) -> None:
    picture = normalise(torch.from_numpy(pixels)[None], MEAN, STD)
    _check_statistics(verdict, "pixel_values", picture.numpy(), expected["pixel_values"], 1e-6)
    if "global_view" in expected:
        view = network.whole_view(picture, tile_size)
        _check_statistics(verdict, "global_view", view.numpy(), expected["global_view"], 1e-5)


def _check_features(verdict: Verdict, backend: IXCRewardInProcess, pixels: Pixels, expected: Case) -> None:
    features = backend.features(pixels).numpy()
    _check_statistics(verdict, "image_embeds", features[None], expected, 2e-5)
    if "row_means" in expected:
        means = features.astype(np.float64)[:40].mean(1)
        _within(verdict, "image_embeds row_means", means, expected["row_means"], 1e-5)


def _check_statistics(
    verdict: Verdict, what: str, values: npt.NDArray[np.float32], expected: Case, tolerance: float
) -> None:
    wide = values.astype(np.float64)
    verdict.exactly(f"{what} shape", list(values.shape), expected["shape"])
    found = [wide.mean(), wide.std(), np.abs(wide).sum()]
    wanted = [expected["mean"], expected["std"], expected["abs_sum"]]
    _within(verdict, f"{what} mean, std, abs_sum", found, wanted, tolerance)
    _within(verdict, f"{what} first", wide.flatten()[:8], expected["first"], tolerance)
    _within(verdict, f"{what} last", wide.flatten()[-8:], expected["last"], tolerance)


def _within(verdict: Verdict, what: str, found: npt.ArrayLike, expected: Sequence[float], tolerance: float) -> None:
    if not np.allclose(found, expected, rtol=tolerance, atol=tolerance):
        verdict.differences.append(f"{what}: expected {expected}, found {np.asarray(found).tolist()}")


def _digest(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


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
    expected, tile_size = case["expected"], backend.spec.tile_size
    canvas = compose([backend.open(name) for name in case["frames"]], tile_size)
    layout = lay_out_frames(*canvas.size, tile_size)
    pixels = pad(canvas, layout)
    verdict.exactly("canvas_wh", list(canvas.size), expected["canvas_wh"])
    verdict.exactly("canvas_u8_sha256", _digest(np.asarray(canvas)), expected["canvas_u8_sha256"])
    verdict.exactly("padded_wh", list(layout.padded), expected["padded_wh"])
    verdict.exactly("padded_u8_sha256", _digest(pixels), expected["padded_u8_sha256"])
    verdict.exactly("grid_cols_rows", [layout.columns, layout.rows], expected["grid_cols_rows"])
    verdict.exactly("n_tokens", backend.tokens(pixels), expected["n_tokens"])
    _check_pixels(verdict, pixels, expected, tile_size)
    _check_features(verdict, backend, pixels, expected["image_embeds"])
    candidate = backend.candidate(backend.encode(case["conversation"], [pixels], case["options"]), [pixels])
    verdict.closely("score", backend.score([candidate]), [expected["score"]])


def _check_geometry(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    for width, height, tiles, *expected in case["expected"]["rows"]:
        try:
            layout = lay_out(width, height, case["tile"], tiles)
        except UnusablePicture:
            verdict.exactly(f"{width} × {height} in {tiles}", "error" in expected, True)
            continue
        tokens = count_tokens(layout.columns, layout.rows, backend.spec.tile_side)
        found = [*layout.padded, layout.columns, layout.rows, tokens]
        verdict.exactly(f"{width} × {height} in {tiles}", found, expected)


def _check_layout(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    _check_picture(verdict, backend, case["image"], case["expected"])


def _tokenizer_rows(rows: Sequence[Case], directory: Path) -> Iterator[Verdict]:
    """With the special tokens alone as added ones, and where that differs also with ChatML's."""
    model = SentencePieceProcessor()
    model.load(str(directory / "tokenizer.model"))
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    chatml = {f"<|{name}|>": 92538 + index for index, name in enumerate(_CHATML)}
    for row in rows:
        verdict = Verdict(row["id"])
        for key, added in (("part_ids", special), ("part_ids_if_chatml_added_tokens", special | chatml)):
            if key in row:
                verdict.exactly(key, _part_ids(Tokenizer(model, added), row["parts"]), row[key])
        yield verdict


def _part_ids(tokenizer: Tokenizer, parts: Sequence[str]) -> list[list[int]]:
    ids = [tokenizer.encode([Segment(part, trusted=True)]).ids.tolist() for part in parts]
    return [[*tokenizer.bos.tolist(), *ids[0]], *ids[1:]]


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
