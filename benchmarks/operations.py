"""Floating-point operations of a token tree: those that its tokens need, and those that a forward does."""

from collections.abc import Sequence

import numpy as np

from models.attention_blocks import plan_blocks, select_queries
from models.spec import DecoderSpec
from models.token_tree import Path, TokenTree, build_tree
from models.tree_scorer import Prompt


def needed_operations(tree: TokenTree, spec: DecoderSpec, read: Sequence[int]) -> int:
    """Two for each weight and row, four for each query head's width and key that its row sees.

    In the last layer keys and values of every row, and the rest for the rows that are read.
    """
    rows, reads = len(tree.keys), len(read)
    attention = 4 * spec.hidden_size
    whole = (spec.layers - 1) * (2 * rows * _weights(spec) + attention * int((tree.positions + 1).sum()))
    last = 2 * (rows - reads) * _key_value_weights(spec) + 2 * reads * _weights(spec)
    return whole + last + attention * int((tree.positions[list(read)] + 1).sum())


def done_operations(tree: TokenTree, spec: DecoderSpec, read: Sequence[int], *, fused: bool = False) -> int:
    """The same with what the blocks of attention compute and then hide, and the read rows' keys twice."""
    blocks = plan_blocks(tree, spec.queries_per_kv_head, fused=fused)
    seen = sum((block.last - block.first) * len(block.keys) for block in blocks)
    asked = select_queries(blocks, np.array(read, np.int64))
    last = sum((block.last - block.first) * len(block.keys) for block in asked)
    attention = 4 * spec.hidden_size * ((spec.layers - 1) * seen + last)
    rows, reads = len(tree.keys), len(read)
    products = 2 * rows * ((spec.layers - 1) * _weights(spec) + _key_value_weights(spec)) + 2 * reads * _weights(spec)
    return attention + products


def whole_tree(prompts: Sequence[Prompt]) -> TokenTree:
    """The prompts' tree with nothing held."""
    return build_tree([Path(prompt.keys, prompt.readouts) for prompt in prompts])


def _weights(spec: DecoderSpec) -> int:
    """Of one layer's linear maps."""
    width = spec.hidden_size
    return 2 * width * width + _key_value_weights(spec) + 3 * width * spec.intermediate_size


def _key_value_weights(spec: DecoderSpec) -> int:
    return 2 * spec.hidden_size * spec.kv_heads * spec.head_dim
