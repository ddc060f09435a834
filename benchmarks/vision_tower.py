"""The vision tower alone: a picture's tiles in twos, in eights, and once for each candidate as the reference does.

`python -m benchmarks.vision_tower [--dtype bfloat16] [--tiles 4 13] [--candidates 8] [--rounds 3]`: an InternViT of
300 M parameters with random weights (hidden 1024, 24 layers, 16 heads, intermediate 4096) on tiles of 448 pixels, 1,025
tokens each. Four tiles are W1's picture in `benchmarks.engine`, thirteen W6's. The reference's forward has all tiles of
a picture in one batch, for every candidate anew; one is timed and multiplied.
"""

import argparse
from functools import partial

import numpy as np
import torch

from benchmarks.engine import matmul_rate
from benchmarks.interleaved import Contestant, Times, interleave
from benchmarks.tuned import start_tuned
from benchmarks.workloads import draw_weights
from models.spec import VisionSpec
from models.vision import TILES_AT_ONCE, TILES_AT_ONCE_ON_CPU, VisionTower, build_vision, patch_features, vision_shapes

SPEC = VisionSpec(
    image_size=448,
    patch_size=14,
    hidden_size=1024,
    intermediate_size=4096,
    layers=24,
    heads=16,
    eps=1e-6,
    qkv_bias=True,
    qk_normalization=False,
    norm="layer_norm",
    activation="gelu",
)
_LAST = -1
_OURS, _EIGHTS, _REFERENCE = (
    "steelyard: once, two tiles at once",
    "once, eight tiles at once",
    "once for each candidate",
)


def operations(spec: VisionSpec, tiles: int) -> int:
    """Two for each weight of a block and token, four for each width and pair of tokens; the patches' are few."""
    tokens, width = spec.native_grid**2 + 1, spec.hidden_size
    weights = 4 * width**2 + 2 * width * spec.intermediate_size
    return tiles * spec.layers * (2 * tokens * weights + 4 * tokens**2 * width)


def random_tower(dtype: torch.dtype) -> VisionTower:
    """Weights at `random_checkpoint`'s scale."""
    generator = torch.Generator().manual_seed(0)
    shapes = vision_shapes(SPEC)
    return build_vision(SPEC, {name: draw_weights(shape, dtype, generator) for name, shape in shapes.items()}, "")


def measure(tower: VisionTower, tiles: int, options: argparse.Namespace, dtype: torch.dtype) -> None:
    """One picture of so many tiles, every way in turn; prints a line for each."""
    pixels = torch.randn(tiles, 3, 448, 448, generator=torch.Generator().manual_seed(tiles)).to(dtype)
    rates: list[float] = []

    def encode(at_once: int) -> torch.Tensor:
        return torch.cat([patch_features(tower, part, _LAST) for part in pixels.split(at_once)])

    def timed(at_once: int, times: int = 1) -> float:
        encode(at_once)
        return float(times)

    def rate() -> float:
        rates.append(matmul_rate(dtype))
        return 1.0

    tolerance = 0.5 if dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(encode(TILES_AT_ONCE_ON_CPU).float(), encode(1).float(), rtol=0.05, atol=tolerance)
    contestants: dict[str, Contestant] = {
        "(the matmul rate)": rate,
        _OURS: partial(timed, TILES_AT_ONCE_ON_CPU),
        _EIGHTS: partial(timed, TILES_AT_ONCE),
        _REFERENCE: partial(timed, tiles, options.candidates),
    }
    _print(interleave(contestants, options.rounds), tiles, rates)


def _print(times: Times, tiles: int, rates: list[float]) -> None:
    done = operations(SPEC, tiles)
    reached = np.median([done / s / r for s, r in zip(times.seconds[_OURS], rates, strict=True)])
    print(f"{tiles} tiles, {done / 1e12:.2f} T operations, {reached:.0%} of {np.median(rates) / 1e9:.0f} GFLOP/s")
    for name in (_OURS, _EIGHTS, _REFERENCE):
        ratio, least, most = times.ratio(name, _OURS)
        print(f"  {name:32} {times.median(name):7.2f} s  {ratio:.2f} ({least:.2f}–{most:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--tiles", type=int, nargs="+", default=[4, 13])
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    start_tuned("benchmarks.vision_tower")
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    tower = random_tower(dtype)
    with torch.inference_mode():
        for tiles in options.tiles:
            measure(tower, tiles, options, dtype)


if __name__ == "__main__":
    main()
