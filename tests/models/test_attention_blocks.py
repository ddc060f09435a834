"""Who attends to whom, written out as a matrix of rows by keys."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention_blocks import Block, plan_blocks, select_queries
from models.token_tree import Path, TokenTree, build_tree
from tests.models.trees import Shape, paths, read_again, seen_by

thoroughly = settings(max_examples=80, deadline=None, derandomize=True)
# So many queries to a key that a part has the fewest rows.
QUERIES = st.sampled_from([1, 4, 1 << 14])
TILE_ROWS = st.sampled_from([None, 1, 16, 64])
LONG_RUNS = Shape(most_keys=5, most_repeats=25)


def expected(tree: TokenTree) -> list[set[int]]:
    """For each row the keys that it sees, by walking every path."""
    sees: list[set[int]] = [set() for _ in tree.keys]
    for index, path in enumerate(tree.paths):
        seen = seen_by(tree, index)
        for place, row in enumerate(seen):
            if row >= 0:
                sees[row] |= set(seen[: place + 1])
        for position, row in zip(path.readouts.tolist(), tree.readouts[index].tolist(), strict=True):
            if position in read_again(path):
                sees[row] = {row, *seen[:position]}
    return sees


def found(blocks: Sequence[Block]) -> list[list[int]]:
    """For each row, in the order of the blocks, the keys that it sees in the order of its block."""
    sees = []
    for block in blocks:
        assert block.visible.shape == (block.last - block.first, block.tail)
        assert len(np.unique(block.keys)) == len(block.keys)
        for visible in block.visible:
            leading = block.keys[: len(block.keys) - block.tail]
            sees.append([*leading.tolist(), *block.keys[len(leading) :][visible].tolist()])
    return sees


def assert_in_order(blocks: Sequence[Block], rows: int) -> None:
    assert [row for block in blocks for row in range(block.first, block.last)] == list(range(rows))


@thoroughly
@given(paths(LONG_RUNS), QUERIES, st.booleans(), st.booleans(), TILE_ROWS)
def test_a_row_attends_to_its_own_path_up_to_itself(
    given_paths: list[Path], queries: int, merge: bool, fused: bool, tile_rows: int | None
) -> None:
    tree = build_tree(given_paths)
    blocks = plan_blocks(tree, queries, merge=merge, fused=fused, tile_rows=tile_rows)
    assert_in_order(blocks, len(tree.keys))
    seen = found(blocks)
    assert [set(keys) for keys in seen] == expected(tree)
    assert all(len(keys) == len(set(keys)) for keys in seen)


@thoroughly
@given(paths(LONG_RUNS), QUERIES)
def test_unmerged_blocks_have_keys_in_path_order(given_paths: list[Path], queries: int) -> None:
    tree = build_tree(given_paths)
    blocks = plan_blocks(tree, queries, merge=False)
    for node in tree.nodes:
        own = [block for block in blocks if block.first in node.rows]
        before = seen_by(tree, node.path)[: node.start]
        for block in own:
            assert block.last <= node.rows.stop
            assert block.keys.tolist() == [*before, *range(node.row, block.last)]


@thoroughly
@given(paths(LONG_RUNS), QUERIES, st.booleans(), st.data())
def test_selected_rows_see_what_they_saw(
    given_paths: list[Path], queries: int, merge: bool, data: st.DataObject
) -> None:
    tree = build_tree(given_paths)
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(tree.keys)))))) if len(tree.keys) else []
    blocks = plan_blocks(tree, queries, merge=merge)
    selected = select_queries(blocks, np.array(rows, np.int64))
    assert_in_order(selected, len(rows))
    everything = found(blocks)
    assert found(selected) == [everything[row] for row in rows]


@pytest.mark.parametrize("merge", [True, False])
def test_so_they_do_in_a_tree_of_a_thousand_rows(merge: bool) -> None:
    """Past the most rows of a block, and past the most scores."""
    prefix, tails = np.arange(700), [np.full(length, length) for length in (3, 40, 41, 2, 300)]
    keys = [np.concatenate([prefix, tail]) for tail in tails]
    tree = build_tree([Path(one, np.array([len(one) - 1], np.int32)) for one in keys])
    for queries in (1, 4):
        blocks = plan_blocks(tree, queries, merge=merge)
        assert_in_order(blocks, 700 + 3 + 40 + 41 + 2 + 300)
        assert max(block.last - block.first for block in blocks) <= 512
        assert [set(keys) for keys in found(blocks)] == expected(tree)


def test_where_no_scores_are_kept_blocks_stay_large_however_many_keys_they_see() -> None:
    long = Path(np.arange(6000), np.array([5999], np.int32))
    tree = build_tree([long])
    blocks = plan_blocks(tree, 2, fused=True)
    assert len(blocks) < len(plan_blocks(tree, 2))
    assert [block.last - block.first for block in blocks] == [512] * 11 + [368]
    assert [set(keys) for keys in found(blocks)] == expected(tree)


def test_siblings_of_few_rows_share_a_block() -> None:
    prefix = np.arange(100)
    keys = [np.concatenate([prefix, np.full(4, last)]) for last in range(8)]
    tree = build_tree([Path(one, np.array([len(one) - 1], np.int32)) for one in keys])
    assert len(plan_blocks(tree, 1)) < len(plan_blocks(tree, 1, merge=False)) == 9


def test_no_rows_have_no_blocks() -> None:
    assert plan_blocks(build_tree([]), 1) == []
    assert select_queries([], np.empty(0, np.int64)) == []
