"""The forest against a naive expansion, one token at a time."""

import numpy as np
from hypothesis import given, settings

from models.token_tree import Path, TokenTree, build_tree, picture_keys, picture_rows
from tests.models.trees import Shape, Token, paths, read_again, seen_by, tokens_of

thoroughly = settings(max_examples=150, deadline=None, derandomize=True)


def rows_by_token(tree: TokenTree) -> dict[Token, int]:
    """Where each token that is not held is computed; a token has one row whichever path asks."""
    found: dict[Token, int] = {}
    for index, path in enumerate(tree.paths):
        needed = tokens_of(tree.paths, index)[len(path.slots) : path.needed]
        for token, row in zip(needed, tree.rows[index].tolist(), strict=True):
            assert found.setdefault(token, row) == row
    return found


def rows_read_again(tree: TokenTree) -> dict[Token, int]:
    found: dict[Token, int] = {}
    for index, path in enumerate(tree.paths):
        tokens, rows = tokens_of(tree.paths, index), tree.readouts[index].tolist()
        for position, row in zip(path.readouts.tolist(), rows, strict=True):
            if position in read_again(path):
                assert found.setdefault(tokens[position], row) == row
    return found


@thoroughly
@given(paths())
def test_each_needed_token_is_computed_once(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    new, again = rows_by_token(tree), rows_read_again(tree)
    # As many rows as tokens, all different: none is missing, none is there twice, and nothing else is computed.
    assert sorted([*new.values(), *again.values()]) == list(range(len(tree.keys)))
    assert len(tree.positions) == len(tree.keys)


@thoroughly
@given(paths())
def test_a_paths_rows_spell_its_keys_at_their_positions(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    for path, rows in zip(given_paths, tree.rows, strict=True):
        held = len(path.slots)
        assert tree.keys[rows].tolist() == path.keys[held : path.needed].tolist()
        assert tree.positions[rows].tolist() == list(range(held, max(held, path.needed)))


@thoroughly
@given(paths())
def test_a_read_out_has_its_tokens_row_or_is_known(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    again = rows_read_again(tree)
    for index, path in enumerate(given_paths):
        tokens = tokens_of(given_paths, index)
        for position, row in zip(path.readouts.tolist(), tree.readouts[index].tolist(), strict=True):
            if position >= len(path.slots):
                assert row == tree.rows[index][position - len(path.slots)]
            elif position in path.known:
                assert row == -1
            else:
                assert row == again[tokens[position]]
                assert (tree.keys[row], tree.positions[row]) == (path.keys[position], position)


@thoroughly
@given(paths(Shape(most_repeats=3)))
def test_a_nodes_context_is_what_comes_before_it_in_every_path(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    for index, node in enumerate(tree.nodes):
        context = tree.context(index).tolist()
        if node.again:
            assert context == (-1 - given_paths[node.path].slots[: node.start]).tolist()
            continue
        through = [path for path, rows in enumerate(tree.rows) if node.row in rows]
        assert node.path == through[0]
        for path in through:
            seen = seen_by(tree, path)
            assert context == seen[: node.start]
            assert list(node.rows) == seen[node.start : node.start + node.length]


@thoroughly
@given(paths())
def test_a_subtrees_rows_are_one_range(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    below: list[list[int]] = [list(node.rows) for node in tree.nodes]
    assert [row for rows in below for row in rows] == list(range(len(tree.keys)))
    for index in reversed(range(len(tree.nodes))):
        assert below[index] == list(range(below[index][0], below[index][0] + len(below[index])))
        parent = tree.nodes[index].parent
        if parent is not None:
            assert parent < index
            below[parent] = sorted(below[parent] + below[index])


@thoroughly
@given(paths())
def test_computed_are_the_tokens_that_no_earlier_path_needs(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    counted: set[Token] = set()
    expected = []
    for index, path in enumerate(given_paths):
        tokens = tokens_of(given_paths, index)
        own = {*tokens[len(path.slots) : path.needed], *(tokens[position] for position in read_again(path))}
        expected.append(len(own - counted))
        counted |= own
    assert tree.computed == expected
    assert sum(tree.computed) == len(tree.keys)


@thoroughly
@given(paths())
def test_a_path_that_is_alone_shares_no_row(given_paths: list[Path]) -> None:
    tree = build_tree(given_paths)
    for index, path in enumerate(given_paths):
        others = [rows for other, rows in enumerate(tree.rows) if other != index]
        if path.alone and others:
            assert not np.isin(tree.rows[index], np.concatenate(others)).any()


def test_a_tree_may_be_deeper_than_python_recurses() -> None:
    keys = np.arange(1_050)
    deep = [Path(keys[: end + 1], np.array([end], np.int32)) for end in range(len(keys))]
    tree = build_tree(deep)
    assert tree.keys.tolist() == keys.tolist()
    assert tree.computed == [1] * len(keys)


def test_no_paths_make_no_tree() -> None:
    tree = build_tree([])
    assert (len(tree.keys), tree.nodes, tree.rows, tree.computed) == (0, (), (), [])


def test_a_pictures_keys_are_no_others_and_say_whose_they_are() -> None:
    pictures = [picture_keys(number, rows) for number, rows in ((0, 3), (1, 4), (2**30, 2))]
    keys = np.concatenate(pictures)
    assert (keys < 0).all()
    assert len(np.unique(keys)) == 9
    numbers, rows = picture_rows(keys)
    assert numbers.tolist() == [0] * 3 + [1] * 4 + [2**30] * 2
    assert rows.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
