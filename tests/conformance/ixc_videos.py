"""Video files of IXC-2.5-Reward's golden cases: which frames are looked at, and what they come to."""

import hashlib
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from models.ixc_reward.frames import compose
from models.ixc_reward.layout import lay_out_frames, pad
from steelyard.video import sample_frames
from tests.conformance.ixc_in_process import Case, IXCRewardInProcess
from tests.conformance.report import Verdict

# How far a decoder's mean colours may stand from the reference's, in grey levels.
_SAME_FRAME = 3.0


def check_sampling(verdict: Verdict, case: Case) -> None:
    """The numbers of frames, by length and rate; a video without frames is refused, which the reference cannot."""
    for row in case["expected"]["rows"]:
        frames, fps = row["num_frames"], row["fps"]
        try:
            found: list[int] | str = sample_frames(frames, fps)
        except ValueError:
            found = []
        verdict.exactly(f"{frames} frames at {fps}", found, row.get("frame_indices", []))


def check_file(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    """Frames, composite, length and, where the decoder agrees with the reference's, the score."""
    expected, tile_size = case["expected"], backend.spec.tile_size
    frames, fps = _decode(backend.folder / case["images"][0])
    indices = sample_frames(len(frames), fps)
    verdict.exactly("frames and rate", (len(frames), fps), (expected["num_frames"], expected["avg_fps"]))
    verdict.exactly("frame_indices", indices, expected["frame_indices"])
    picked = np.stack([frames[index] for index in indices])
    canvas = compose([Image.fromarray(frame) for frame in picked], tile_size)
    layout = lay_out_frames(*canvas.size, tile_size)
    pixels = pad(canvas, layout)
    verdict.exactly("canvas_wh", list(canvas.size), expected["canvas_wh"])
    verdict.exactly("padded_wh", list(layout.padded), expected["padded_wh"])
    verdict.exactly("grid_cols_rows", [layout.columns, layout.rows], expected["grid_cols_rows"])
    candidate = backend.candidate(backend.encode(case["conversation"], [pixels], case["options"]), [pixels])
    verdict.exactly("length", len(candidate.ids), expected["length"])
    if hashlib.sha256(picked.tobytes()).hexdigest() == expected["frames_u8_sha256"]:
        verdict.closely("score", backend.score([candidate]), [expected["score"]])
        return
    off = np.abs(picked.reshape(len(picked), -1, 3).mean(1) - np.array(expected["frame_mean_rgb"])).max()
    verdict.note = f"this decoder's frames are not the reference's (mean colours off by {off:.1f}): score not compared"
    if off <= _SAME_FRAME:
        verdict.closely("score", backend.score([candidate]), [expected["score"]], 0.05)


def _decode(path: Path) -> tuple[list[npt.NDArray[np.uint8]], float]:
    """All frames, (height, width, 3), and how many there are in a second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        frames = [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(stream)]
        return frames, float(stream.average_rate)
