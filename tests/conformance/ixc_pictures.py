"""Pictures of IXC-2.5-Reward's golden cases: layouts and pixels exactly, what the tower makes of them closely."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from models.ixc_reward import network
from models.ixc_reward.frames import compose
from models.ixc_reward.layout import (
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
)
from models.vision import normalise
from tests.conformance.ixc_in_process import Case, IXCRewardInProcess, digest
from tests.conformance.report import Verdict


def check_geometry(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> None:
    """Grids and token counts of many sizes."""
    for width, height, tiles, *expected in case["expected"]["rows"]:
        try:
            layout = lay_out(width, height, case["tile"], tiles)
        except UnusablePicture:
            verdict.exactly(f"{width} × {height} in {tiles}", "error" in expected, True)
            continue
        tokens = count_tokens(layout.columns, layout.rows, backend.spec.tile_side)
        found = [*layout.padded, layout.columns, layout.rows, tokens]
        verdict.exactly(f"{width} × {height} in {tiles}", found, expected)


def check_frames(verdict: Verdict, case: Case, backend: IXCRewardInProcess) -> Pixels:
    """The composite of video frames; returns it padded."""
    expected, tile_size = case["expected"], backend.spec.tile_size
    canvas = compose([backend.open(name) for name in case["frames"]], tile_size)
    layout = lay_out_frames(*canvas.size, tile_size)
    pixels = pad(canvas, layout)
    verdict.exactly("canvas_wh", list(canvas.size), expected["canvas_wh"])
    verdict.exactly("canvas_u8_sha256", digest(np.asarray(canvas)), expected["canvas_u8_sha256"])
    verdict.exactly("padded_wh", list(layout.padded), expected["padded_wh"])
    verdict.exactly("padded_u8_sha256", digest(pixels), expected["padded_u8_sha256"])
    verdict.exactly("grid_cols_rows", [layout.columns, layout.rows], expected["grid_cols_rows"])
    verdict.exactly("n_tokens", backend.tokens(pixels), expected["n_tokens"])
    _check_pixels(verdict, pixels, expected, tile_size)
    _check_features(verdict, backend, pixels, expected["image_embeds"])
    return pixels


def check_picture(verdict: Verdict, backend: IXCRewardInProcess, name: str, expected: Case) -> None:
    """One picture of a case, at the tiles that it had there."""
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
    verdict.exactly("rgb_u8_sha256", digest(np.asarray(image)), expected["rgb_u8_sha256"])
    verdict.exactly("padded_u8_sha256", digest(pixels), expected["padded_u8_sha256"])
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
        verdict.nearly("image_embeds row_means", means, expected["row_means"], 1e-5)


def _check_statistics(
    verdict: Verdict, what: str, values: npt.NDArray[np.float32], expected: Case, tolerance: float
) -> None:
    wide = values.astype(np.float64)
    verdict.exactly(f"{what} shape", list(values.shape), expected["shape"])
    found = [wide.mean(), wide.std(), np.abs(wide).sum()]
    wanted = [expected["mean"], expected["std"], expected["abs_sum"]]
    verdict.nearly(f"{what} mean, std, abs_sum", found, wanted, tolerance)
    verdict.nearly(f"{what} first", wide.flatten()[:8], expected["first"], tolerance)
    verdict.nearly(f"{what} last", wide.flatten()[-8:], expected["last"], tolerance)
