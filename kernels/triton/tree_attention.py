"""Attention of a token tree's rows in one launch: a tile's keys are gathered, held or new, span by span."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from math import gcd

import torch
import triton
import triton.language as tl

from kernels.attention_tiles import FIELDS, FOLDED, SPAN, Tiles, most_folded
from kernels.triton.forms import INTERPRETED, TARGETS, TYPE_NAMES, Configuration, Form, power_of_two

# Of heads, to be compiled ahead of time.
_WIDTHS = (16, 32, 64, 128)


@triton.jit
def _gather(
    new: tl.tensor,
    held: tl.tensor,
    new_row: tl.tensor,
    held_row: tl.tensor,
    index: tl.tensor,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ALIGNED: tl.constexpr,
    WIDEN: tl.constexpr,
) -> tl.tensor:
    """(keys, width) of one key-value head: `index` (keys,) int64 has new rows, and slots as -1 - slot."""
    column = tl.arange(0, PADDED)
    row = tl.where(index < 0, held + (-1 - index) * held_row, new + index * new_row)
    # Through a choice the compiler loses sight of it, and would load element by element.
    row = tl.multiple_of(row, ALIGNED)
    if WIDTH == PADDED:
        gathered = tl.load(row[:, None] + column[None, :])
    else:
        gathered = tl.load(row[:, None] + column[None, :], (column < WIDTH)[None, :], other=0.0)
    return gathered.to(tl.float32) if WIDEN else gathered


@triton.jit
def _weigh(scores: tl.tensor, best: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Weights, as powers of two below the best score yet; that score; what the sums up to here shrink by."""
    better = tl.maximum(best, tl.max(scores, 1) * 1.4426950408889634)
    # A row that has seen no key yet has no best score to subtract.
    shift = tl.where(better == float("-inf"), 0.0, better)
    return tl.exp2(scores * 1.4426950408889634 - shift[:, None]), better, tl.exp2(best - shift)


@triton.jit
def _tree_attention(
    queries: tl.tensor,
    new_keys: tl.tensor,
    new_values: tl.tensor,
    held_keys: tl.tensor,
    held_values: tl.tensor,
    output: tl.tensor,
    table: tl.tensor,
    keys: tl.tensor,
    words: tl.tensor,
    tiles: tl.tensor,
    query_row: tl.tensor,
    query_head: tl.tensor,
    new_head: tl.tensor,
    new_row: tl.tensor,
    held_head: tl.tensor,
    held_row: tl.tensor,
    output_row: tl.tensor,
    output_head: tl.tensor,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    FOLDED: tl.constexpr,
    SPAN: tl.constexpr,
    BITS: tl.constexpr,
    FIELDS: tl.constexpr,
    ALIGNED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    # Tiles of one key-value head follow one another, so that what they share is still in the cache.
    head = (tl.program_id(0) // tiles).to(tl.int64)
    tile = table + (tl.program_id(0) % tiles).to(tl.int64) * FIELDS
    first, rows, start = tl.load(tile).to(tl.int64), tl.load(tile + 1), tl.load(tile + 2).to(tl.int64)
    count, whole = tl.load(tile + 3), tl.load(tile + 4)
    first_word, next_word = tl.load(tile + 5).to(tl.int64), tl.load(tile + 6)
    # A row's query heads lie side by side.
    row, column, key = tl.arange(0, FOLDED) // GROUPS, tl.arange(0, PADDED), tl.arange(0, SPAN)
    query_heads = head * GROUPS + tl.arange(0, FOLDED) % GROUPS
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    place = (first + row) * query_row + query_heads * query_head
    query = tl.load(queries + place[:, None] + column[None, :], inside, other=0.0)
    if WIDEN:
        query = query.to(tl.float32)
    new_keys += head * new_head
    new_values += head * new_head
    held_keys += head * held_head
    held_values += head * held_head
    best = tl.full((FOLDED,), float("-inf"), tl.float32)
    total = tl.zeros((FOLDED,), tl.float32)
    summed = tl.zeros((FOLDED, PADDED), tl.float32)
    for begin in range(0, whole, SPAN):
        index = tl.load(keys + start + begin + key).to(tl.int64)
        k = _gather(new_keys, held_keys, new_row, held_row, index, WIDTH, PADDED, ALIGNED, WIDEN)
        weights, best, shrink = _weigh(tl.dot(query, tl.trans(k), input_precision=PRECISION), best)
        v = _gather(new_values, held_values, new_row, held_row, index, WIDTH, PADDED, ALIGNED, WIDEN)
        total = total * shrink + tl.sum(weights, 1)
        summed = tl.dot(weights.to(v.dtype), v, summed * shrink[:, None], input_precision=PRECISION)
    for begin in range(whole, count, SPAN):
        # Behind its keys a tile has its last one again, which the bits hide.
        index = tl.load(keys + start + tl.minimum(begin + key, count - 1)).to(tl.int64)
        k = _gather(new_keys, held_keys, new_row, held_row, index, WIDTH, PADDED, ALIGNED, WIDEN)
        scores = tl.dot(query, tl.trans(k), input_precision=PRECISION)
        # Rows that are none see all, and are not kept.
        word = tl.load(words + first_word + (begin - whole) // BITS * next_word + row, row < rows, other=-1)
        bit = begin % BITS + key
        half = tl.where((bit < 32)[None, :], word.to(tl.int32)[:, None], (word >> 32).to(tl.int32)[:, None])
        sees = (half >> (bit & 31)[None, :]) & 1
        weights, best, shrink = _weigh(tl.where(sees != 0, scores, float("-inf")), best)
        v = _gather(new_values, held_values, new_row, held_row, index, WIDTH, PADDED, ALIGNED, WIDEN)
        total = total * shrink + tl.sum(weights, 1)
        summed = tl.dot(weights.to(v.dtype), v, summed * shrink[:, None], input_precision=PRECISION)
    place = (first + row) * output_row + query_heads * output_head
    summed = (summed / total[:, None]).to(output.dtype.element_ty)
    tl.store(output + place[:, None] + column[None, :], summed, inside)


def tree_attention(
    q: torch.Tensor,
    new_keys: torch.Tensor,
    new_values: torch.Tensor,
    held_keys: torch.Tensor,
    held_values: torch.Tensor,
    tiles: Tiles,
    output: torch.Tensor,
    form: Form | None = None,
) -> None:
    """q and `output` (rows, heads, head_dim); keys and values (kv_heads, tokens, head_dim); the tiles' rows alone.

    In the form that `form_of` picks unless one is given.
    """
    count, kv_heads = len(tiles.table), len(new_keys)
    if not count:
        return
    assert new_keys.stride() == new_values.stride()
    assert held_keys.stride() == held_values.stride()
    assert all(x.stride(2) == 1 for x in (q, new_keys, held_keys, output))
    aligned = _alignment(new_keys, new_values, held_keys, held_values)
    form = form or form_of(q.dtype, q.shape[2], q.shape[1] // kv_heads, tiles.folded, aligned, _target(q.device))
    _tree_attention[(count * kv_heads,)](
        q,
        new_keys,
        new_values,
        held_keys,
        held_values,
        output,
        tiles.table,
        tiles.keys,
        tiles.words,
        count,
        q.stride(0),
        q.stride(1),
        new_keys.stride(0),
        new_keys.stride(1),
        held_keys.stride(0),
        held_keys.stride(1),
        output.stride(0),
        output.stride(1),
        **form.launch,
    )


def _alignment(*tensors: torch.Tensor) -> int:
    """The power of two up to 16 that divides every row's address."""
    strides = [stride * tensor.element_size() for tensor in tensors for stride in tensor.stride()[:2]]
    return gcd(16, *strides, *(tensor.data_ptr() for tensor in tensors))


@cache
def _target(device: torch.device) -> int:
    """Of what is compiled for, what a device comes closest to."""
    if device.type != "cuda":
        return TARGETS[-1]
    return TARGETS[-1] if torch.cuda.get_device_capability(device) >= (9, 0) else TARGETS[0]


def form_of(
    dtype: torch.dtype, width: int, groups: int, folded: int, aligned: int = 16, target: int = TARGETS[-1]
) -> Form:
    """The form for heads of a width, `groups` query heads to a key-value head, and what a tile folds, on a GPU."""
    padded = power_of_two(width)
    span, warps, stages = _float32_form(folded) if dtype == torch.float32 else _half_form(padded, folded, target)
    constants: dict[str, int | bool | float | str] = {
        "GROUPS": groups,
        "WIDTH": width,
        "PADDED": padded,
        "FOLDED": folded,
        "SPAN": span,
        "BITS": SPAN,
        "FIELDS": FIELDS,
        "ALIGNED": aligned,
        # Float32 products as they are, not in the matrix units' ten bits of mantissa.
        "PRECISION": "ieee",
        "WIDEN": INTERPRETED,
    }
    return Form(constants, warps, stages)


def _half_form(padded: int, folded: int, target: int) -> tuple[int, int, int]:
    """Keys at once, warps and stages: Hopper's matrix units read their operands from shared memory.

    `python -m benchmarks.tree_attention --forms` on an H200: of 128 folded rows narrow heads take 1.4 times as long in
    eight warps as in four, and all heads a tenth less in five stages than in three. Fewer rows want more blocks.
    """
    if target >= 90 and folded == FOLDED[-1]:
        return SPAN, 8 if padded > 64 else 4, 5
    is_wide = padded > 64 and folded > 32
    return SPAN // 2 if is_wide and target < 90 else SPAN, max(folded // 16, 4), 3


def _float32_form(folded: int) -> tuple[int, int, int]:
    """The same for products that keep whole operands in registers: a thread has two sums."""
    return SPAN // 4, max(folded // 4, 4), 3


def configurations() -> Iterator[Configuration]:
    """Every form that a launcher can pick for heads of these widths; a width between takes the next one's."""
    for dtype, name in TYPE_NAMES.items():
        tensors = ("queries", "new_keys", "new_values", "held_keys", "held_values", "output")
        types = dict.fromkeys(tensors, f"*{name}:16")
        types |= {"table": "*i32:16", "keys": "*i32:16", "words": "*i64:16", "tiles": "i32"}
        strides = (
            "query_row",
            "query_head",
            "new_head",
            "new_row",
            "held_head",
            "held_row",
            "output_row",
            "output_head",
        )
        types |= dict.fromkeys(strides, "i32:16")
        for width, folded, target in product(_WIDTHS, FOLDED, TARGETS):
            if folded <= most_folded(dtype):
                label = f"{dtype}, width {width}, {folded} rows and heads".removeprefix("torch.")
                form = form_of(dtype, width, 2, folded, target=target)
                yield Configuration(_tree_attention, label, types, form, (target,))
