"""A tile of a linear map's product: the inner loop that kernels share. No sum is split, so its order is fixed."""

import triton
import triton.language as tl


@triton.jit
def tile_product(
    x: tl.tensor,
    rows: tl.tensor,
    is_row: tl.tensor,
    weight: tl.tensor,
    outputs: tl.tensor,
    is_output: tl.tensor,
    inner: tl.tensor,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    WIDE: tl.constexpr,
) -> tl.tensor:
    """Rows of x (…, inner) by rows of `weight` (out, inner) → (M, N) float32; `rows` and `outputs` are int64.

    `WIDE` multiplies in float32: for float32, and wherever kernels are interpreted.
    """
    total = tl.zeros((M, N), tl.float32)
    steps = tl.arange(0, K)
    for first in range(0, inner, K):
        step = first + steps
        is_step = step < inner
        a = tl.load(x + rows[:, None] * inner + step[None, :], is_row[:, None] & is_step[None, :], other=0.0)
        place = weight + outputs[None, :] * inner + step[:, None]
        b = tl.load(place, is_output[None, :] & is_step[:, None], other=0.0)
        if WIDE:
            total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(a, b, total)
    return total
