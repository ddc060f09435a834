"""The forms in which launchers start their kernels, as a launch and as compilation ahead of time need them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton

# Read where kernels are decorated; bfloat16 arithmetic is wrong there, so that products want float32 at once.
INTERPRETED = bool(triton.knobs.runtime.interpret)
# The types that models are served in, by the names that Triton's signatures have for them.
TYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}

# What kernels are compiled for: sm_80 (A100) and sm_90 (H100, H200).
TARGETS = (80, 90)


@dataclass(frozen=True, slots=True)
class Form:
    """What a launcher picks by shape and type: a kernel's `tl.constexpr` arguments, its warps, its stages."""

    constants: Mapping[str, int | bool | float | str]
    warps: int = 4
    stages: int = 2

    @property
    def launch(self) -> dict[str, int | bool | float | str]:
        """What a launch takes besides the kernel's other arguments; fusing is named, as its default is to change."""
        return {**self.constants, "num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}

    @property
    def options(self) -> dict[str, int | bool]:
        """The same for a compilation."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A form of a kernel that a launcher can pick, to be compiled without a GPU.

    `types` names the other arguments' types in the kernel's order: "*bf16:16" a pointer to bfloat16 whose address is a
    multiple of 16, "i32:16" such an integer, "i32", "fp32". `targets` are the GPUs it is picked for.
    """

    kernel: "triton.runtime.jit.KernelInterface"
    label: str
    types: Mapping[str, str]
    form: Form
    targets: tuple[int, ...] = TARGETS


def power_of_two(count: int, least: int = 16) -> int:
    """The least power of two that holds `count`, and that a tile may have."""
    return max(least, 1 << (count - 1).bit_length())
