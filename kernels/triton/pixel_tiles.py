"""Bytes of pictures, channel last, to normalised numbers, channel first."""

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl

from kernels.triton.forms import TYPE_NAMES, Configuration, Form

_PIXELS = 1024


@triton.jit
def _pixel_tiles(
    tiles: tl.tensor,
    output: tl.tensor,
    pixels: tl.tensor,
    mean0: tl.tensor,
    mean1: tl.tensor,
    mean2: tl.tensor,
    std0: tl.tensor,
    std1: tl.tensor,
    std2: tl.tensor,
    PIXELS: tl.constexpr,
) -> None:
    tile = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    for channel in tl.static_range(3):
        mean = mean0 if channel == 0 else (mean1 if channel == 1 else mean2)
        std = std0 if channel == 0 else (std1 if channel == 1 else std2)
        level = tl.load(tiles + (tile * pixels + pixel) * 3 + channel, inside, other=0).to(tl.float32)
        # Divisions that round as a processor's do: the reference's pixels, exactly.
        value = tl.div_rn(tl.div_rn(level, 255.0) - mean, std)
        place = output + (tile * 3 + channel) * pixels + pixel
        tl.store(place, value.to(output.dtype.element_ty), inside)


def pixel_tiles(tiles: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
    """uint8 (tiles, height, width, 3) → `dtype` (tiles, 3, height, width)."""
    tiles = tiles.contiguous()
    count, height, width, _ = tiles.shape
    output = torch.empty(count, 3, height, width, dtype=dtype, device=tiles.device)
    form = _form()
    if tiles.numel():
        grid = (triton.cdiv(height * width, _PIXELS), count)
        _pixel_tiles[grid](tiles, output, height * width, *mean, *std, **form.launch)
    return output


def _form() -> Form:
    return Form({"PIXELS": _PIXELS}, warps=4)


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        numbers = dict.fromkeys(("mean0", "mean1", "mean2", "std0", "std1", "std2"), "fp32")
        types = {"tiles": "*u8:16", "output": f"*{name}:16", "pixels": "i32:16"} | numbers
        yield Configuration(_pixel_tiles, str(dtype).removeprefix("torch."), types, _form())
