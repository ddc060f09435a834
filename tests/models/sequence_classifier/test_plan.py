from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.encoded import ids_of
from models.sequence_classifier.plan import Run, apart, computed, share
from models.tokenizer import Ids

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8)


def spelt(runs: Sequence[Run], of: Sequence[Ids]) -> dict[int, list[int]]:
    """Each sequence as the runs that lead to its end spell it."""
    paths: list[list[int]] = []
    for run in runs:
        before = [] if run.parent is None else paths[run.parent]
        assert len(before) == run.start < run.stop
        paths.append([*before, *of[run.of][run.start : run.stop].tolist()])
    return {end: path for run, path in zip(runs, paths, strict=True) for end in run.ends}


@given(sequences, st.sampled_from([1, 3, 16]))
def test_runs_spell_every_sequence(tokens: list[list[int]], worth: int) -> None:
    of = [ids_of(*own) for own in tokens]
    assert spelt(share(of, worth), of) == dict(enumerate(tokens))
    assert spelt(apart(of), of) == dict(enumerate(tokens))


@given(sequences)
def test_at_worth_one_no_token_is_computed_twice(tokens: list[list[int]]) -> None:
    of = [ids_of(*own) for own in tokens]
    prefixes = {tuple(own[: length + 1]) for own in tokens for length in range(len(own))}
    assert sum(computed(share(of, 1), len(of))) == len(prefixes)


@given(sequences, st.sampled_from([1, 3, 16]))
def test_a_runs_children_follow_it_before_its_next_sibling(tokens: list[list[int]], worth: int) -> None:
    runs = share([ids_of(*own) for own in tokens], worth)
    open_runs: list[int | None] = [None]
    for index, run in enumerate(runs):
        while open_runs[-1] != run.parent:
            open_runs.pop()
        open_runs.append(index)


def test_a_prefix_is_counted_with_the_first_who_needs_it() -> None:
    prefix = list(range(20))
    of = [ids_of(*prefix, 1, 2), ids_of(*prefix, 3), ids_of(*prefix, 1, 2)]
    assert computed(share(of), 3) == [22, 1, 0]


def test_a_prefix_that_is_not_worth_a_forward_is_computed_again_but_a_longer_one_behind_it_is_not() -> None:
    long = list(range(30))
    of = [ids_of(9, 8, *long, 1), ids_of(9, 8, *long, 2), ids_of(9, 8, 7)]
    assert computed(share(of), 3) == [33, 1, 3]


def test_a_sequence_that_others_go_on_from_is_read_on_the_way() -> None:
    of = [ids_of(1, 2, 3), ids_of(1, 2)]
    assert share(of) == [Run(0, 0, 2, None, (1,)), Run(0, 2, 3, 0, (0,))]


def test_a_thousand_grown_conversations_are_planned_without_recursion() -> None:
    of = [np.arange(length, dtype=np.int32) for length in range(1, 1500)]
    assert sum(computed(share(of), len(of))) == 1499
    assert len(apart(of)) == 1499
