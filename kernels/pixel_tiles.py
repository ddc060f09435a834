"""Tiles of pictures from bytes to what a vision tower takes."""

from collections.abc import Sequence

import torch

from kernels.dispatch import runs_kernel
from kernels.trial import Size, Trial, byte_count


def pixel_tiles_reference(
    tiles: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """uint8 (tiles, height, width, 3) → (tiles, 3, height, width): by each channel's mean and deviation, in float32."""
    pixels = tiles.permute(0, 3, 1, 2).float() / 255
    means, deviations = (torch.tensor(values, device=tiles.device).view(1, 3, 1, 1) for values in (mean, std))
    return ((pixels - means) / deviations).to(dtype)


def pixel_tiles(
    tiles: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """`pixel_tiles_reference` by whatever is fastest on the tiles' device: only bytes need to be sent there."""
    if runs_kernel("pixel_tiles", tiles):
        from kernels.triton.pixel_tiles import pixel_tiles as kernel

        return kernel(tiles, mean, std, dtype)
    return pixel_tiles_reference(tiles, mean, std, dtype)


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    shape = (size.tiles, size.tile_size, size.tile_size, 3)
    tiles = torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(device, torch.uint8)
    return Trial(
        lambda: (pixel_tiles(tiles, mean, std, dtype),),
        lambda: (pixel_tiles_reference(tiles, mean, std, dtype),),
        byte_count(tiles) + tiles.numel() * dtype.itemsize,
    )
