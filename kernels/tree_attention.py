"""Grouped-query attention of a token tree's rows: each sees its ancestors, held or new, and itself."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from kernels.attention_tiles import Block, Tiles, cut_tiles, folded_rows, most_rows
from kernels.dispatch import runs_kernel
from kernels.fused_linear import WHOLE_ROWS
from kernels.processor import has_amx
from kernels.trial import Size, Trial, byte_count, draw

# In batch-invariant mode sums go over spans of so many keys.
_SPAN = 128


@dataclass(frozen=True, slots=True)
class Held:
    """Keys and values of one layer: (kv_heads, tokens, head_dim) each."""

    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Gather:
    """A block made ready for a device, for all layers of a forward.

    `bias` (rows, tail) hides keys; it may have more rows than the block, and `length` more keys, which nobody sees.
    `run` is the range of new rows that all its keys are, or None. Otherwise they are copied together: `pieces` is what
    is not there yet from the block before. With a `span`, a row's sums have an order that only its own keys decide.
    """

    first: int
    last: int
    length: int
    bias: torch.Tensor
    run: tuple[int, int] | None
    pieces: tuple["Piece", ...] = ()
    span: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Keys from `place` on: `source` indexes held slots or new rows, a slice where they are consecutive."""

    place: int
    count: int
    is_held: bool
    source: slice | torch.Tensor


# What `prepare` makes: for torch, or for the kernel.
Prepared = list[Gather] | Tiles


def tree_attention_reference(q: torch.Tensor, new: Held, held: Held, blocks: Sequence[Block]) -> torch.Tensor:
    """q (rows, heads, head_dim), scaled already → (rows, heads, head_dim). Softmax in float32.

    Materialises (heads, rows, keys) for each block.
    """
    outputs = []
    for block in blocks:
        keys, values = (_pick(n, h, block.keys) for n, h in ((new.keys, held.keys), (new.values, held.values)))
        groups = q.shape[1] // len(keys)
        scores = q[block.first : block.last].transpose(0, 1) @ keys.repeat_interleave(groups, 0).transpose(1, 2)
        hidden = np.zeros((block.last - block.first, len(block.keys)), np.bool_)
        hidden[:, len(block.keys) - block.visible.shape[1] :] = ~block.visible
        masked = scores.float().masked_fill(torch.tensor(hidden, device=q.device), float("-inf"))
        outputs.append((masked.softmax(-1).to(q.dtype) @ values.repeat_interleave(groups, 0)).transpose(0, 1))
    return torch.cat(outputs)


def prepare(blocks: Sequence[Block], x: torch.Tensor, queries_per_key: int, *, invariant: bool = False) -> Prepared:
    """What a forward's layers share, for queries of x's type on its device: masks and indices there."""
    if runs_kernel("tree_attention", x):
        folded = folded_rows(blocks, queries_per_key, x.dtype, invariant=invariant)
        return cut_tiles(blocks, folded, queries_per_key, x.device)
    return _gathers(blocks, x.dtype, x.device, invariant=invariant)


def tile_rows(x: torch.Tensor, queries_per_key: int) -> int | None:
    """How many rows go together best where the kernel runs on queries like x; None where torch does the work."""
    return most_rows(queries_per_key) if runs_kernel("tree_attention", x) else None


def keeps_no_scores(x: torch.Tensor, *, invariant: bool) -> bool:
    """Whether queries like x attend by torch's fused operator, whose sums have no order that the mode could rely on."""
    return has_amx(x) and not invariant


def tree_attention(q: torch.Tensor, new: Held, held: Held, prepared: Prepared, output: torch.Tensor) -> Generator[None]:
    """`tree_attention_reference` of prepared blocks into their rows of `output` (rows, heads, head_dim).

    By the kernel or by torch, as was decided when they were prepared. Pauses now and then.
    """
    if isinstance(prepared, Tiles):
        from kernels.triton.tree_attention import tree_attention as kernel

        kernel(q, new.keys, new.values, held.keys, held.values, prepared, output)
        yield
        return
    longest = max((block.length for block in prepared if block.run is None), default=0)
    copied = Held(*(new.keys.new_zeros(len(new.keys), longest, q.shape[2]) for _ in range(2)))
    for block in prepared:
        keys, values = _together(block, new, held, copied)
        attend = _attend_fused if keeps_no_scores(q, invariant=bool(block.span)) else _attend
        output[block.first : block.last] = attend(q[block.first : block.last], keys, values, block)
        yield


def _gathers(blocks: Sequence[Block], dtype: torch.dtype, device: torch.device, *, invariant: bool) -> list[Gather]:
    ready: list[Gather] = []
    filled: npt.NDArray[np.int64] = np.empty(0, np.int64)
    for block in blocks:
        count, tail = block.visible.shape
        rows, padding = (-count % WHOLE_ROWS, -len(block.keys) % _SPAN) if invariant else (0, 0)
        bias = torch.full((count + rows, tail + padding), float("-inf"), dtype=dtype)
        bias[:count, :tail].masked_fill_(torch.from_numpy(block.visible), 0)
        bias[count:, :tail] = 0
        run = None if invariant else _as_run(block.keys)
        pieces: tuple[Piece, ...] = ()
        if run is None:
            pieces = tuple(_pieces(block.keys, _alike(filled, block.keys), device))
            filled = block.keys
        length = len(block.keys) + padding
        ready.append(Gather(block.first, block.last, length, bias.to(device), run, pieces, _SPAN if invariant else 0))
    return ready


def _attend_fused(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, block: Gather) -> torch.Tensor:
    """`_attend` by torch's fused attention: no scores in memory, softmax in float32.

    Twice as fast where its products run on AMX; elsewhere it does bfloat16 no faster than float32, and products win.
    """
    # For each layer anew: kept for all blocks of a long prompt, masks as wide as their keys would take gigabytes.
    mask = block.bias.new_zeros(len(q), keys.shape[1])
    mask[:, keys.shape[1] - block.bias.shape[1] :] = block.bias
    heads_first = q.transpose(0, 1).unsqueeze(0)
    found = functional.scaled_dot_product_attention(
        heads_first, keys.unsqueeze(0), values.unsqueeze(0), attn_mask=mask[None, None], scale=1.0, enable_gqa=True
    )
    return found.squeeze(0).transpose(0, 1)


def _attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, block: Gather) -> torch.Tensor:
    """A block's queries (rows, heads, head_dim) → the same; one softmax over all keys, so that nothing is merged."""
    width, groups = q.shape[2], q.shape[1] // len(keys)
    rows, count = len(block.bias), len(q)
    # The query heads of a key-value head become rows: (kv_heads, groups · rows, head_dim).
    queries = functional.pad(q, (0, 0, 0, 0, 0, rows - count))
    folded = queries.view(rows, -1, groups, width).permute(1, 2, 0, 3).reshape(-1, groups * rows, width)
    output = q.new_empty(rows, len(folded), groups, width)
    for head, query in enumerate(folded):
        weights = _weigh(query, keys[head], block.bias, groups)
        summed = _sum_values(weights, values[head], block.span)
        output[:, head] = summed.view(groups, rows, width).transpose(0, 1)
    return output.flatten(1, 2)[:count]


def _weigh(q: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    """One key-value head's attention weights, (groups · rows, keys)."""
    scores = q @ keys.T
    start = scores.shape[1] - bias.shape[1]
    # Group by group: a sum that broadcasts over three dimensions is many times slower.
    for part in scores.chunk(groups):
        part[:, start:].add_(bias)
    return functional.softmax(scores, -1)


def _sum_values(weights: torch.Tensor, values: torch.Tensor, span: int) -> torch.Tensor:
    """(rows, keys) by (keys, head_dim), in float32 over spans of keys in their order where a span is given."""
    if not span:
        return weights @ values
    summed = torch.zeros(len(weights), values.shape[1], device=values.device)
    for start in range(0, len(values), span):
        summed += weights[:, start : start + span] @ values[start : start + span]
    return summed.to(values.dtype)


def _together(block: Gather, new: Held, held: Held, copied: Held) -> tuple[torch.Tensor, torch.Tensor]:
    """A block's keys and values, each (kv_heads, keys, head_dim)."""
    if block.run is not None:
        first, last = block.run
        return new.keys[:, first:last], new.values[:, first:last]
    for piece in block.pieces:
        source = held if piece.is_held else new
        place = slice(piece.place, piece.place + piece.count)
        copied.keys[:, place] = source.keys[:, piece.source]
        copied.values[:, place] = source.values[:, piece.source]
    return copied.keys[:, : block.length], copied.values[:, : block.length]


def _as_run(keys: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    first, last = int(keys[0]), int(keys[0]) + len(keys)
    is_run = first >= 0 and keys[-1] == last - 1 and (np.diff(keys) == 1).all()
    return (first, last) if is_run else None


def _alike(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> int:
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length


def _pieces(keys: npt.NDArray[np.int64], kept: int, device: torch.device) -> list[Piece]:
    """What has to be copied from `kept` on, cut where slots and rows alternate."""
    pieces = []
    is_held = keys < 0
    cuts = [kept, *(np.flatnonzero(np.diff(is_held[kept:])) + kept + 1).tolist(), len(keys)]
    for start, stop in pairwise(cuts):
        if start == stop:
            continue
        index = -1 - keys[start:stop] if is_held[start] else keys[start:stop]
        consecutive = (np.diff(index) == 1).all()
        source = slice(int(index[0]), int(index[-1]) + 1) if consecutive else torch.tensor(index, device=device)
        pieces.append(Piece(start, stop - start, bool(is_held[start]), source))
    return pieces


def _pick(new: torch.Tensor, held: torch.Tensor, keys: npt.NDArray[np.int64]) -> torch.Tensor:
    both = torch.cat([new, held], dim=1)
    index = np.where(keys < 0, new.shape[1] - 1 - keys, keys)
    return both[:, torch.tensor(index, device=new.device)]


@dataclass(frozen=True, slots=True, eq=False)
class _Causal:
    """Rows that see all of `before`, and each other up to themselves."""

    first: int
    last: int
    before: npt.NDArray[np.int64]

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        return np.concatenate([self.before, np.arange(self.first, self.last)])

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        return np.tri(self.last - self.first, dtype=np.bool_)


def trial(size: Size, dtype: torch.dtype, device: torch.device) -> Trial:
    """A prefix, and branches that see its first quarter in slots, which lie backwards."""
    held_tokens, width = size.prefix // 4, size.head_dim
    q = draw(size.rows, size.heads, width, dtype=dtype, device=device)
    shapes = [(size.kv_heads, tokens, width) for tokens in (size.rows, size.rows, held_tokens, held_tokens)]
    parts = [draw(*shape, dtype=dtype, device=device, seed=seed) for seed, shape in enumerate(shapes, 1)]
    new, held = Held(*parts[:2]), Held(*parts[2:])
    q *= width**-0.5
    seen = np.concatenate([-1 - np.arange(held_tokens)[::-1], np.arange(held_tokens, size.prefix)])
    cuts = np.linspace(size.prefix, size.rows, size.branches + 1).astype(int).tolist()
    blocks = [_Causal(first, last, seen) for first, last in pairwise(cuts) if first < last]
    if size.prefix:
        blocks.insert(0, _Causal(0, size.prefix, np.empty(0, np.int64)))
    # Once for each of the two that may run, as a forward's layers share it.
    prepared = cache(lambda by_kernel: prepare(blocks, q, size.heads // size.kv_heads))

    def ours() -> tuple[torch.Tensor]:
        output, ready = torch.empty_like(q), prepared(runs_kernel("tree_attention", q))
        for _ in tree_attention(q, new, held, ready, output):
            pass
        return (output,)

    def reference() -> tuple[torch.Tensor]:
        return (tree_attention_reference(q, new, held, blocks),)

    return Trial(ours, reference, byte_count(q, q, *parts))
