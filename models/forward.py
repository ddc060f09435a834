"""One packed forward of the decoder over the new tokens of a token tree, in pieces that can be paused between."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from kernels.fused_linear import WHOLE_ROWS
from kernels.rms_norm import rms_norm
from kernels.rotary import rotary
from kernels.tree_attention import Gather, Held, prepare, tree_attention
from models.attention_blocks import plan_blocks, select_queries
from models.decoder import Decoder, DecoderLayer, split_qkv
from models.linear import Linear, PartialLora, project
from models.positions import is_stretched, rope_tables
from models.slot_pool import SlotPool
from models.spec import DecoderSpec
from models.token_tree import Rows, TokenTree

# Rows that go through a layer's products at once: what they leave between two products stays in a processor's cache.
_CHUNK_ELEMENTS, _FEWEST_ROWS, _MOST_ROWS = 1 << 21, 256, 4096


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
        size = min(max(_CHUNK_ELEMENTS // spec.intermediate_size, _FEWEST_ROWS), _MOST_ROWS)
        # Chunks of their own, which each layer replaces: nothing is copied back.
        self._x = list(x.split(size))
        self._chunks = [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
        pictures = np.flatnonzero(work.tree.keys < 0) if spec.lora_rank else np.empty(0, np.int64)
        # An adapted product may add up and round in another way, so that the mode has no other.
        self._adapts = bool(spec.lora_rank) and invariant
        self._pictures = [self._adapted(_within(pictures, chunk), x.device) for chunk in self._chunks]
        self._kept, self._slots = (torch.from_numpy(index).to(x.device) for index in (work.kept, work.slots))
        self._cos, self._sin = _rope(decoder, work, rows, x.device)
        self._new = Held(*(x.new_empty(spec.kv_heads, rows, spec.head_dim) for _ in range(2)))
        self._queries = x.new_empty(rows, spec.heads, spec.head_dim)
        self._attended = x.new_zeros(rows, spec.heads, spec.head_dim)
        blocks = plan_blocks(work.tree, spec.queries_per_kv_head, merge=not invariant)
        self._blocks = prepare(blocks, x.dtype, x.device, invariant=invariant)
        self._read = torch.from_numpy(work.read).to(x.device)
        self._read_blocks = prepare(select_queries(blocks, work.read), x.dtype, x.device, invariant=invariant)
        self._read_pictures = self._adapted(np.flatnonzero(np.isin(work.read, pictures)), x.device)

    def layer(self, index: int) -> Generator[None]:
        layer = self._decoder.layers[index]
        for x, rows, pictures in zip(self._x, self._chunks, self._pictures, strict=True):
            normal = rms_norm(x, layer.attention_norm, self._spec.rms_norm_eps)
            q, k, v = split_qkv(self._spec, project(layer.qkv, normal, pictures))
            self._queries[rows] = self._turn(q, rows, self._spec.head_dim**-0.5)
            self._hold(k, v, rows)
            yield
        self._pool.write(index, self._new, self._kept, self._slots)
        yield from self._attend(index, self._queries, self._blocks, self._attended)
        for chunk, (rows, pictures) in enumerate(zip(self._chunks, self._pictures, strict=True)):
            self._x[chunk] = self._finish(layer, self._x[chunk], self._attended[rows], pictures)
            yield

    def last_layer(self, index: int) -> Generator[None, None, torch.Tensor]:
        """The hidden states of the read rows, in whole multiples where the mode wants them."""
        layer, spec = self._decoder.layers[index], self._spec
        keys_and_values = _keys_and_values(spec, layer.qkv)
        for x, rows, pictures in zip(self._x, self._chunks, self._pictures, strict=True):
            normal = rms_norm(x, layer.attention_norm, spec.rms_norm_eps)
            both = project(keys_and_values, normal, pictures).view(len(x), spec.kv_heads, 2, spec.head_dim)
            self._hold(both[:, :, 0], both[:, :, 1], rows)
            yield
        self._pool.write(index, self._new, self._kept, self._slots)
        x = torch.cat(self._x)[self._read]
        if self._invariant:
            x = functional.pad(x, (0, 0, 0, _padded(len(x)) - len(x)))
        pictures = self._read_pictures
        normal = rms_norm(x, layer.attention_norm, spec.rms_norm_eps)
        q, _, _ = split_qkv(spec, project(layer.qkv, normal, pictures))
        queries = self._turn(q[: len(self._read)], self._read, spec.head_dim**-0.5)
        attended = x.new_zeros(len(x), spec.heads, spec.head_dim)
        yield from self._attend(index, queries, self._read_blocks, attended)
        return self._finish(layer, x, attended, pictures)

    def _adapted(self, pictures: Rows, device: torch.device) -> torch.Tensor | None:
        """Rows for partial LoRA, None where the products do without."""
        return torch.from_numpy(pictures).to(device) if len(pictures) or self._adapts else None

    def _turn(self, x: torch.Tensor, rows: slice | torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """(rows, heads, head_dim) by their positions' angles; scaled before it is rounded."""
        return rotary(x, self._cos[rows] * scale, self._sin[rows] * scale)

    def _hold(self, k: torch.Tensor, v: torch.Tensor, rows: slice) -> None:
        self._new.keys[:, rows] = self._turn(k, rows).transpose(0, 1)
        self._new.values[:, rows] = v.transpose(0, 1)

    def _attend(
        self, index: int, queries: torch.Tensor, blocks: Sequence[Gather], output: torch.Tensor
    ) -> Generator[None]:
        attended = tree_attention(queries, self._new, self._pool.layer(index), blocks)
        for block, rows in zip(blocks, attended, strict=True):
            output[block.first : block.last] = rows
            yield

    def _finish(
        self, layer: DecoderLayer, x: torch.Tensor, attended: torch.Tensor, pictures: torch.Tensor | None
    ) -> torch.Tensor:
        x = project(layer.output, attended.flatten(1), pictures, plus=x)
        normal = rms_norm(x, layer.mlp_norm, self._spec.rms_norm_eps)
        gate = project(layer.gate, normal, pictures, silu=True)
        return project(layer.down, project(layer.up, normal, pictures, times=gate), pictures, plus=x)


def _padded(rows: int) -> int:
    """The next whole multiple of the rows from which a product's sums do not depend on their number."""
    return -(-rows // WHOLE_ROWS) * WHOLE_ROWS


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
