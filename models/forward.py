"""One packed forward of the decoder over the new tokens of a token tree, in pieces that can be paused between."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from kernels.fused_linear import WHOLE_ROWS
from kernels.processor import has_amx
from kernels.rms_norm import add_rms_norm, rms_norm
from kernels.rotary import Turned, rotary
from kernels.tree_attention import Held, keeps_no_scores, prepare, tile_rows, tree_attention
from models.attention_blocks import plan_blocks, select_queries
from models.decoder import Decoder, DecoderLayer
from models.linear import Linear, PartialLora, project, project_gated, project_sum
from models.positions import is_stretched, rope_tables
from models.slot_pool import SlotPool
from models.spec import DecoderSpec
from models.token_tree import Rows, TokenTree

# Rows that go through a layer's products at once: what they leave between two products stays in a processor's cache.
_CHUNK_ELEMENTS, _FEWEST_ROWS, _MOST_ROWS = 1 << 21, 256, 4096
# A matrix unit does so many times more in the time, and wants more rows.
_AMX_TIMES = 4
# An accelerator wants many, and has no such cache: this bounds what they leave, 0.5 GB at the real size.
_ACCELERATOR_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A token tree made ready for a decoder.

    `lengths[i]` is the length of path i's whole sequence. `kept` are the rows whose keys and values go to `slots`,
    both int64. `read` are the packed rows that are read, ascending.
    """

    tree: TokenTree
    lengths: Sequence[int]
    kept: Rows
    slots: Rows
    read: Rows


def decode(
    decoder: Decoder, x: torch.Tensor, pool: SlotPool, work: Work, *, invariant: bool = False
) -> Generator[None, None, torch.Tensor]:
    """Embedded rows (rows, dim) → hidden states (read rows, dim) before the final norm, in the order of `work.read`.

    The last layer computes queries, attention output and MLP for the read rows alone. Pauses, by yielding, between
    chunks of rows: nothing but the pool is shared with what runs meanwhile.

    `invariant` gives a row the same bits whatever else is in the batch, and whatever of its path was held.
    """
    forward = _Forward(decoder, x, pool, work, invariant)
    for index in range(decoder.spec.layers - 1):
        yield from forward.layer(index)
    hidden = yield from forward.last_layer(decoder.spec.layers - 1)
    return hidden[: len(work.read)]


class _Forward:
    def __init__(self, decoder: Decoder, x: torch.Tensor, pool: SlotPool, work: Work, invariant: bool) -> None:
        spec = decoder.spec
        self._decoder, self._spec, self._pool, self._invariant = decoder, spec, pool, invariant
        rows = _padded(len(x)) if invariant else len(x)
        x = functional.pad(x, (0, 0, 0, rows - len(x)))
        size = _chunk_rows(spec, x)
        # Chunks of their own, which each layer replaces: nothing is copied back. What is yet to be added to each stands
        # beside it, where the next norm adds it.
        self._x = list(x.split(size))
        self._added: list[torch.Tensor | None] = [None] * len(self._x)
        self._chunks = [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
        pictures = np.flatnonzero(work.tree.keys < 0) if spec.lora_rank else np.empty(0, np.int64)
        # An adapted product may add up and round in another way, so that the mode has no other.
        self._adapts = bool(spec.lora_rank) and invariant
        self._pictures = [self._adapted(_within(pictures, chunk), x.device) for chunk in self._chunks]
        self._places = _places(work, rows).to(x.device) if len(work.kept) else None
        self._cos, self._sin = _rope(decoder, work, rows, x.device)
        self._new = Held(*(x.new_empty(spec.kv_heads, rows, spec.head_dim) for _ in range(2)))
        self._queries = x.new_empty(rows, spec.heads, spec.head_dim)
        self._attended = x.new_zeros(rows, spec.heads, spec.head_dim)
        groups = spec.queries_per_kv_head
        fused = keeps_no_scores(x, invariant=invariant)
        blocks = plan_blocks(work.tree, groups, merge=not invariant, fused=fused, tile_rows=tile_rows(x, groups))
        self._blocks = prepare(blocks, x, groups, invariant=invariant)
        self._read = torch.from_numpy(work.read).to(x.device)
        self._read_blocks = prepare(select_queries(blocks, work.read), x, groups, invariant=invariant)
        self._read_pictures = self._adapted(np.flatnonzero(np.isin(work.read, pictures)), x.device)

    def layer(self, index: int) -> Generator[None]:
        layer = self._decoder.layers[index]
        for chunk, (rows, pictures) in enumerate(zip(self._chunks, self._pictures, strict=True)):
            normal = self._normal(chunk, layer)
            self._turn(index, self._project(layer.qkv, normal, pictures), rows, queries=self._queries[rows])
            yield
        yield from tree_attention(self._queries, self._new, self._pool.layer(index), self._blocks, self._attended)
        for chunk, (rows, pictures) in enumerate(zip(self._chunks, self._pictures, strict=True)):
            finished = self._finish(layer, self._x[chunk], self._attended[rows], pictures)
            self._x[chunk], self._added[chunk] = finished
            yield

    def last_layer(self, index: int) -> Generator[None, None, torch.Tensor]:
        """The hidden states of the read rows, in whole multiples where the mode wants them."""
        layer, spec = self._decoder.layers[index], self._spec
        keys_and_values = _keys_and_values(spec, layer.qkv)
        for chunk, (rows, pictures) in enumerate(zip(self._chunks, self._pictures, strict=True)):
            normal = self._normal(chunk, layer)
            self._turn(index, self._project(keys_and_values, normal, pictures), rows)
            yield
        x = torch.cat(self._x)[self._read]
        if self._invariant:
            x = functional.pad(x, (0, 0, 0, _padded(len(x)) - len(x)))
        pictures = self._read_pictures
        normal = rms_norm(x, layer.attention_norm, spec.rms_norm_eps)
        qkv = self._grouped(self._project(layer.qkv, normal, pictures)[: len(self._read)])
        queries = x.new_empty(len(qkv), spec.heads, spec.head_dim)
        rotary(qkv, self._cos[self._read], self._sin[self._read], spec.head_dim**-0.5, Turned(queries))
        attended = x.new_zeros(len(x), spec.heads, spec.head_dim)
        yield from tree_attention(queries, self._new, self._pool.layer(index), self._read_blocks, attended)
        hidden, added = self._finish(layer, x, attended, pictures)
        return hidden if added is None else hidden + added

    def _adapted(self, pictures: Rows, device: torch.device) -> torch.Tensor | None:
        """Rows for partial LoRA, None where the products do without."""
        return torch.from_numpy(pictures).to(device) if len(pictures) or self._adapts else None

    def _normal(self, chunk: int, layer: DecoderLayer) -> torch.Tensor:
        """A chunk's rows for a layer's first product, once what the layer before left to add is added."""
        x, plus = self._x[chunk], self._added[chunk]
        self._x[chunk], normal = add_rms_norm(x, plus, layer.attention_norm, self._spec.rms_norm_eps)
        self._added[chunk] = None
        return normal

    def _project(self, linear: Linear, x: torch.Tensor, pictures: torch.Tensor | None) -> torch.Tensor:
        return project(linear, x, pictures, fixed=self._invariant)

    def _grouped(self, qkv: torch.Tensor) -> torch.Tensor:
        """(rows, rows of wqkv) by key-value head: its query heads, if they are there, its key, its value."""
        return qkv.view(len(qkv), self._spec.kv_heads, -1, self._spec.head_dim)

    def _turn(self, index: int, qkv: torch.Tensor, rows: slice, queries: torch.Tensor | None = None) -> None:
        """Queries, keys and values of a chunk to where attention reads them, and to their slots."""
        into = Turned(queries, self._new.keys[:, rows], self._new.values[:, rows])
        slots = None if self._places is None else self._pool.slots(index, self._places[rows])
        rotary(self._grouped(qkv), self._cos[rows], self._sin[rows], self._spec.head_dim**-0.5, into, slots)

    def _finish(
        self, layer: DecoderLayer, x: torch.Tensor, attended: torch.Tensor, pictures: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The rest of a layer, and what is yet to be added to it."""
        y, plus = project_sum(layer.output, attended.flatten(1), pictures, x, fixed=self._invariant)
        x, normal = add_rms_norm(y, plus, layer.mlp_norm, self._spec.rms_norm_eps)
        inner = project_gated(layer.gate, layer.up, normal, pictures, fixed=self._invariant)
        return project_sum(layer.down, inner, pictures, x, fixed=self._invariant)


def _padded(rows: int) -> int:
    """The next whole multiple of the rows from which a product's sums do not depend on their number."""
    return -(-rows // WHOLE_ROWS) * WHOLE_ROWS


def _chunk_rows(spec: DecoderSpec, x: torch.Tensor) -> int:
    if x.device.type != "cpu":
        return _ACCELERATOR_ROWS
    elements = _CHUNK_ELEMENTS * (_AMX_TIMES if has_amx(x) else 1)
    return min(max(elements // spec.intermediate_size, _FEWEST_ROWS), _MOST_ROWS)


def _places(work: Work, rows: int) -> torch.Tensor:
    """(rows,) int64: the slot that each row's keys and values go to, or -1."""
    places = np.full(rows, -1, np.int64)
    places[work.kept] = work.slots
    return torch.from_numpy(places)


def _within(rows: Rows, chunk: slice) -> Rows:
    """Ascending `rows` that lie in a chunk, counted from its start."""
    first, last = np.searchsorted(rows, (chunk.start, chunk.stop)).tolist()
    within: Rows = rows[first:last] - chunk.start
    return within


def _keys_and_values(spec: DecoderSpec, qkv: Linear) -> Linear:
    """The part of `wqkv` whose rows are keys and values, still grouped by key-value head."""

    def part(rows: torch.Tensor) -> torch.Tensor:
        grouped = rows.view(spec.kv_heads, spec.queries_per_kv_head + 2, spec.head_dim, -1)
        return grouped[:, spec.queries_per_kv_head :].reshape(-1, *rows.shape[1:])

    return Linear(
        part(qkv.weight),
        None if qkv.bias is None else part(qkv.bias),
        None if qkv.lora is None else PartialLora(qkv.lora.a, part(qkv.lora.b)),
    )


def _rope(decoder: Decoder, work: Work, rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every row; a sequence that outgrew its positions has a base of its own."""
    spec, tree = decoder.spec, work.tree
    positions = torch.zeros(rows, dtype=torch.long)
    positions[: len(tree.positions)] = torch.from_numpy(tree.positions)
    cos, sin = rope_tables(spec.rope, spec.head_dim, positions.to(device), 0)
    for node in tree.nodes:
        if is_stretched(spec.rope, work.lengths[node.path]):
            own = slice(node.row, node.row + node.length)
            cos[own], sin[own] = rope_tables(
                spec.rope, spec.head_dim, positions[own].to(device), work.lengths[node.path]
            )
    return cos, sin
