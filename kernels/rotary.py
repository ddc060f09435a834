"""Rotary position embedding on the packed projection of queries, keys and values."""

from dataclasses import dataclass

import torch

from kernels.dispatch import runs_kernel
from kernels.processor import CACHED_ROWS
from kernels.trial import Size, Trial, byte_count, draw


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """Where the turned rows go: queries (rows, heads, head_dim), keys and values (kv_heads, rows, head_dim).

    None for what is not wanted; keys and values are wanted together.
    """

    queries: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Where some rows' keys and values are also kept: (kv_heads, slots, head_dim), and each row's slot, or -1.

    `places` (rows,) int64.
    """

    keys: torch.Tensor
    values: torch.Tensor
    places: torch.Tensor


def rotary_reference(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate (tokens, heads, head_dim) by (tokens, head_dim / 2) cosines and sines, halves paired, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # (tokens, 1, head_dim / 2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def rotary(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    scale: float,
    into: Turned,
    slots: Slots | None = None,
) -> None:
    """Split qkv (rows, kv_heads, groups + 2, head_dim) into queries, times `scale`, keys and values, and turn them.

    Each key-value head's group holds its query heads, then its key, then its value; `rotary_reference` by whatever is
    fastest on the device, cosines and sines (rows, head_dim / 2) float32.
    """
    if runs_kernel("rotary", qkv):
        from kernels.triton.rotary import rotary as kernel

        kernel(qkv, cos, sin, scale, into, slots)
        return
    q, k, v = qkv.split([qkv.shape[2] - 2, 1, 1], dim=2)
    if into.queries is not None:
        # Scaled before it is rounded.
        _turn(q, cos * scale, sin * scale, into.queries.view(q.shape))
    if into.keys is None or into.values is None:
        return
    _turn(k, cos, sin, into.keys.transpose(0, 1).unsqueeze(2))
    into.values[:] = v.squeeze(2).transpose(0, 1)
    if slots is not None:
        kept = slots.places.ge(0).nonzero().squeeze(1)
        places = slots.places.index_select(0, kept)
        slots.keys.index_copy_(1, places, into.keys.index_select(1, kept))
        slots.values.index_copy_(1, places, into.values.index_select(1, kept))


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, into: torch.Tensor) -> None:
    """`rotary_reference` of x (rows, kv_heads, any, head_dim) in half as many passes."""
    parts = (part.split(CACHED_ROWS) for part in (x, cos[:, None, None], sin[:, None, None], into))
    for rows, its_cos, its_sin, its_into in zip(*parts, strict=True):
        wide = rows.float()
        turned = torch.empty_like(wide)
        (first, second), (left, right) = wide.chunk(2, dim=-1), turned.chunk(2, dim=-1)
        torch.mul(first, its_cos, out=left).addcmul_(second, its_sin, value=-1)
        torch.mul(second, its_cos, out=right).addcmul_(first, its_sin)
        its_into.copy_(turned)


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    groups, width = size.heads // size.kv_heads, size.head_dim
    qkv = draw(size.rows, size.kv_heads, groups + 2, width, dtype=dtype, device=device)
    angles = draw(size.rows, width // 2, dtype=torch.float32, device=device)
    cos, sin, scale = angles.cos(), angles.sin(), width**-0.5
    # Every second row is kept, in slots that lie backwards.
    places = torch.arange(size.rows, device=device).flip(0)
    places[1::2] = -1

    def fresh() -> tuple[Turned, Slots]:
        queries = qkv.new_empty(size.rows, size.heads, width)
        shape = size.kv_heads, size.rows, width
        into = Turned(queries, qkv.new_empty(shape), qkv.new_empty(shape))
        return into, Slots(qkv.new_zeros(shape), qkv.new_zeros(shape), places)

    def ours() -> tuple[torch.Tensor, ...]:
        into, slots = fresh()
        rotary(qkv, cos, sin, scale, into, slots)
        return _written(into, slots)

    def reference() -> tuple[torch.Tensor, ...]:
        q, k, v = qkv.split([groups, 1, 1], dim=2)
        queries = rotary_reference(q.flatten(1, 2), cos * scale, sin * scale)
        keys, values = rotary_reference(k.squeeze(2), cos, sin).transpose(0, 1), v.squeeze(2).transpose(0, 1)
        held = []
        for part in (keys, values):
            kept = torch.zeros_like(part)
            kept[:, places[::2]] = part[:, ::2]
            held.append(kept)
        return queries, keys, values, *held

    kept = 2 * byte_count(qkv[: (size.rows + 1) // 2, :, 0])
    return Trial(ours, reference, 2 * byte_count(qkv) + byte_count(cos, sin, places) + kept)


def _written(into: Turned, slots: Slots) -> tuple[torch.Tensor, ...]:
    assert into.queries is not None
    assert into.keys is not None
    assert into.values is not None
    return into.queries, into.keys, into.values, slots.keys, slots.values
