"""Rotary positions of packed queries, keys and values, each written where attention reads it."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from kernels.rotary import Slots, Turned
from kernels.triton.forms import TYPE_NAMES, Configuration, Form, power_of_two

# Cosines and sines are read once by each of so many programs, which share a row's key-value heads.
_SHARES = 4
_ELEMENTS = 1024


@triton.jit
def _rotary(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    queries: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    held_keys: tl.tensor,
    held_values: tl.tensor,
    places: tl.tensor,
    rows: tl.tensor,
    kv_heads: tl.tensor,
    half: tl.tensor,
    qkv_stride: tl.tensor,
    queries_stride: tl.tensor,
    keys_stride: tl.tensor,
    held_stride: tl.tensor,
    scale: tl.tensor,
    GROUPS: tl.constexpr,
    TURNS_QUERIES: tl.constexpr,
    TURNS_KEYS: tl.constexpr,
    HOLDS: tl.constexpr,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    HALF: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, HALF)
    within = (row < rows)[:, None] & (column < half)[None, :]
    angle = row[:, None] * half + column[None, :]
    cosine = tl.load(cos + angle, within, other=0.0)
    sine = tl.load(sin + angle, within, other=0.0)
    if HOLDS:
        place = tl.load(places + row, row < rows, other=-1)
        kept = within & (place >= 0)[:, None]
    for share in range(HEADS):
        head = tl.program_id(1).to(tl.int64) * HEADS + share
        # A mask of rows: the interpreter has no masks that are one number.
        inside = within & (head + 0 * row < kv_heads)[:, None]
        source = qkv + row[:, None] * qkv_stride + head * (GROUPS + 2) * 2 * half + column[None, :]
        if TURNS_QUERIES:
            # Scaled before it is rounded.
            cosine_q, sine_q = cosine * scale, sine * scale
            target = queries + row[:, None] * queries_stride + head * GROUPS * 2 * half + column[None, :]
            for group in range(GROUPS):
                first = tl.load(source + group * 2 * half, inside, other=0.0).to(tl.float32)
                second = tl.load(source + group * 2 * half + half, inside, other=0.0).to(tl.float32)
                turned = first * cosine_q - second * sine_q
                tl.store(target + group * 2 * half, turned.to(queries.dtype.element_ty), inside)
                turned = second * cosine_q + first * sine_q
                tl.store(target + group * 2 * half + half, turned.to(queries.dtype.element_ty), inside)
        if TURNS_KEYS:
            source += GROUPS * 2 * half
            first = tl.load(source, inside, other=0.0).to(tl.float32)
            second = tl.load(source + half, inside, other=0.0).to(tl.float32)
            key1 = (first * cosine - second * sine).to(keys.dtype.element_ty)
            key2 = (second * cosine + first * sine).to(keys.dtype.element_ty)
            value1 = tl.load(source + 2 * half, inside, other=0.0)
            value2 = tl.load(source + 3 * half, inside, other=0.0)
            target = head * keys_stride + row[:, None] * 2 * half + column[None, :]
            tl.store(keys + target, key1, inside)
            tl.store(keys + target + half, key2, inside)
            tl.store(values + target, value1, inside)
            tl.store(values + target + half, value2, inside)
            if HOLDS:
                slot = head * held_stride + place[:, None] * 2 * half + column[None, :]
                tl.store(held_keys + slot, key1, kept & inside)
                tl.store(held_keys + slot + half, key2, kept & inside)
                tl.store(held_values + slot, value1, kept & inside)
                tl.store(held_values + slot + half, value2, kept & inside)


def rotary(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, scale: float, into: Turned, slots: Slots | None
) -> None:
    """`kernels.rotary.rotary` on qkv (rows, kv_heads, groups + 2, head_dim)."""
    rows, kv_heads, parts, width = qkv.shape
    qkv, cos, sin = qkv.contiguous(), cos.contiguous(), sin.contiguous()
    _check(into, slots)
    turns_queries, turns_keys = into.queries is not None, into.keys is not None
    holds = slots is not None and turns_keys
    form = _form(kv_heads, parts - 2, width // 2, queries=turns_queries, keys=turns_keys, holds=holds)
    # What is not written is not read either: any tensor stands for it.
    queries = qkv if into.queries is None else into.queries
    keys, values = (qkv if part is None else part for part in (into.keys, into.values))
    held = (qkv, qkv, cos) if slots is None else (slots.keys, slots.values, slots.places)
    grid = (triton.cdiv(rows, form.constants["ROWS"]), triton.cdiv(kv_heads, form.constants["HEADS"]))
    if rows:
        strides = (qkv.stride(0), queries.stride(0), keys.stride(0), held[0].stride(0))
        _rotary[grid](
            qkv, cos, sin, queries, keys, values, *held, rows, kv_heads, width // 2, *strides, scale, **form.launch
        )


def _check(into: Turned, slots: Slots | None) -> None:
    """A head's numbers must lie together, and its rows one behind the other."""
    if into.queries is not None:
        assert into.queries.stride()[1:] == (into.queries.shape[2], 1)
    held = () if slots is None else (slots.keys, slots.values)
    for part in (into.keys, into.values, *held):
        assert part is None or part.stride()[1:] == (part.shape[2], 1)
    assert into.keys is None or (into.values is not None and into.keys.stride() == into.values.stride())
    assert slots is None or slots.keys.stride() == slots.values.stride()


def _form(kv_heads: int, groups: int, half: int, *, queries: bool, keys: bool, holds: bool) -> Form:
    padded = power_of_two(half)
    constants: dict[str, int | bool | float | str] = {
        "GROUPS": groups,
        "TURNS_QUERIES": queries,
        "TURNS_KEYS": keys,
        "HOLDS": holds,
        "HEADS": -(-kv_heads // _SHARES),
        "ROWS": max(1, _ELEMENTS // padded),
        "HALF": padded,
    }
    return Form(constants, warps=4)


def configurations() -> Iterator[Configuration]:
    for dtype, name in TYPE_NAMES.items():
        tensors = ("qkv", "queries", "keys", "values", "held_keys", "held_values")
        types = dict.fromkeys(tensors, f"*{name}:16") | {"cos": "*fp32:16", "sin": "*fp32:16", "places": "*i64:16"}
        types |= dict.fromkeys(("qkv_stride", "queries_stride", "keys_stride", "held_stride"), "i32:16")
        for kv_heads, groups, half in ((2, 3, 8), (8, 2, 32), (8, 4, 64)):
            # A half of a narrow head is no multiple of 16.
            sizes = {"rows": "i32", "kv_heads": "i32", "half": "i32:16" if half % 16 == 0 else "i32", "scale": "fp32"}
            for queries, keys, holds in ((True, True, True), (False, True, True), (True, False, False)):
                grouped = groups if queries else 0
                form = _form(kv_heads, grouped, half, queries=queries, keys=keys, holds=holds)
                what = " and ".join(part for part, is_turned in (("queries", queries), ("keys", keys)) if is_turned)
                label = f"{str(dtype).removeprefix('torch.')}, {kv_heads} × {grouped} heads of {2 * half}, {what}"
                yield Configuration(_rotary, label, types | sizes, form)
