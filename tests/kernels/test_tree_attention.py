"""Attention of a tree's rows: the reference against torch's own, the dispatch against the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from kernels.tree_attention import Held, prepare, tree_attention, tree_attention_reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
HELD = 40


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What the operator needs of a block."""

    first: int
    last: int
    keys: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]


def dispatch(
    q: torch.Tensor, new: Held, held: Held, blocks: Sequence[Rows], *, invariant: bool = False
) -> torch.Tensor:
    ready = prepare(blocks, q.dtype, q.device, invariant=invariant)
    return torch.cat([output.clone() for output in tree_attention(q, new, held, ready)])


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def heads(kv_heads: int, groups: int, width: int, dtype: torch.dtype, rows: int) -> tuple[torch.Tensor, Held, Held]:
    """Queries, new and held keys and values."""
    q = random(rows, kv_heads * groups, width, dtype=dtype) * width**-0.5
    new, held = (
        Held(*(random(kv_heads, tokens, width, dtype=dtype, seed=seed) for seed in seeds))
        for tokens, seeds in ((rows, (1, 2)), (HELD, (3, 4)))
    )
    return q, new, held


def causal(first: int, last: int, before: Sequence[int]) -> Rows:
    """Rows that see all of `before` and each other up to themselves."""
    keys = np.array([*before, *range(first, last)], np.int64)
    return Rows(first, last, keys, np.tri(last - first, dtype=np.bool_))


def forest() -> list[Rows]:
    """Held runs, scattered slots, new rows after them, siblings that hide keys from each other, one row alone."""
    in_a_row, scattered = [-1 - slot for slot in range(7, 19)], [-1 - slot for slot in (3, 30, 4, 39)]
    siblings = np.zeros((9, 4 + 9), np.bool_)
    siblings[:5, :3] = True
    siblings[5:, 2:4] = True
    siblings[:5, 4:9] = np.tri(5)
    siblings[5:, 9:] = np.tri(4)
    return [
        causal(0, 7, in_a_row),
        causal(7, 8, [*in_a_row, *range(7)]),
        causal(8, 71, [*in_a_row[:5], *scattered, *range(3)]),
        Rows(71, 80, np.array([*scattered, *range(8, 16), 2, -1, -2, 7, *range(71, 80)], np.int64), siblings),
        causal(80, 81, []),
        causal(81, 100, [80]),
        causal(100, 101, scattered),
        causal(101, 140, [100]),
    ]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_the_reference_is_torchs_causal_attention_of_one_sequence(groups: int, dtype: torch.dtype) -> None:
    q, new, held = heads(2, groups, 8, dtype, 63)
    expected = functional.scaled_dot_product_attention(
        q.transpose(0, 1)[None], new.keys[None], new.values[None], is_causal=True, scale=1.0, enable_gqa=True
    )[0].transpose(0, 1)
    ours = tree_attention_reference(q, new, held, [causal(0, 63, [])])
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_reference_sees_held_tokens_as_if_they_were_new() -> None:
    q, new, _ = heads(2, 3, 8, torch.float32, 63)
    whole = tree_attention_reference(q, new, Held(new.keys[:, :0], new.values[:, :0]), [causal(0, 63, [])])
    # The first 20 tokens in slots, last first.
    held = Held(new.keys[:, :20].flip(1), new.values[:, :20].flip(1))
    later = Held(new.keys[:, 20:], new.values[:, 20:])
    part = tree_attention_reference(q[20:], later, held, [causal(0, 43, [slot - 20 for slot in range(20)])])
    torch.testing.assert_close(part, whole[20:])


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [6, 8, 16])
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_dispatch_is_the_reference(groups: int, width: int, dtype: torch.dtype, invariant: bool) -> None:
    q, new, held = heads(2, groups, width, dtype, 140)
    ours = dispatch(q, new, held, forest(), invariant=invariant)
    expected = tree_attention_reference(q, new, held, forest())
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 63, 100, 300])
def test_so_it_is_for_any_number_of_rows_and_one_head(rows: int, invariant: bool) -> None:
    q, new, held = heads(1, 1, 64, torch.float32, rows)
    blocks = [causal(0, rows, [-1 - slot for slot in range(HELD)])]
    expected = tree_attention_reference(q, new, held, blocks)
    torch.testing.assert_close(dispatch(q, new, held, blocks, invariant=invariant), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("invariant", [False, True])
def test_a_key_that_is_hidden_changes_nothing(invariant: bool, dtype: torch.dtype) -> None:
    """Huge ones stand where no row looks: in a sibling's rows, in slots of others, and after a row."""
    q, new, held = heads(2, 2, 8, dtype, 140)
    before = dispatch(q, new, held, forest(), invariant=invariant)
    seen = {key for block in forest() for key in block.keys.tolist()}
    other = Held(held.keys.clone(), held.values.clone())
    for slot in set(range(HELD)) - {-1 - key for key in seen if key < 0}:
        other.keys[:, slot], other.values[:, slot] = float("nan"), float("inf")
    assert torch.equal(dispatch(q, new, other, forest(), invariant=invariant), before)
    later = Held(new.keys.clone(), new.values.clone())
    later.keys[:, 75:80], later.values[:, 75:80] = 1e4, 1e30
    changed = dispatch(q, later, held, forest(), invariant=invariant)
    assert torch.equal(changed[:75], before[:75])
    assert torch.equal(changed[80:], before[80:])
    assert not torch.equal(changed[75:80], before[75:80])


def test_a_single_key_gives_its_value_whatever_its_score() -> None:
    q, new, held = heads(2, 2, 8, torch.float32, 1)
    for invariant in (False, True):
        ours = dispatch(q * 1e4, new, held, [causal(0, 1, [])], invariant=invariant)
        torch.testing.assert_close(ours[0], new.values[:, 0].repeat_interleave(2, 0))


def test_no_blocks_have_no_rows() -> None:
    q, new, held = heads(2, 2, 8, torch.float32, 3)
    assert list(tree_attention(q, new, held, prepare([], q.dtype, q.device))) == []


def test_where_new_rows_lie_does_not_matter() -> None:
    """A run of rows is a view and anything else a copy."""
    q, new, held = heads(2, 3, 8, torch.float32, 63)
    order = torch.randperm(63, generator=torch.Generator().manual_seed(0))
    block = causal(0, 63, [])
    moved = replace(block, keys=order.argsort().numpy())
    shuffled = Held(new.keys[:, order], new.values[:, order])
    torch.testing.assert_close(
        dispatch(q, shuffled, held, [moved]), dispatch(q, new, held, [block]), rtol=1e-5, atol=1e-5
    )
