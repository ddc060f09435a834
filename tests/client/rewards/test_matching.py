"""Matching by numpy against the plain loop, bit for bit."""

import random
import struct
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.rewards import matching
from steelyard.rewards.matching import Boxes, match, match_plainly

COORDINATE = (
    st.integers(-5, 12) | st.floats(-5, 12) | st.sampled_from([0, -0.0, 1e-200, 2.0**24, 1e100, -1e100, 1e-320])
)
LOOSE = st.lists(COORDINATE, min_size=4, max_size=4)
CLOSE = st.builds(lambda x, y: [x, y, x + 10, y + 10], st.integers(0, 3) | st.floats(0, 3), st.integers(0, 3))
MANY = st.lists(LOOSE | CLOSE, max_size=12)


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("d", value) for value in values]


def outcome(find: Callable[[Boxes, Boxes], list[float]], truth: Boxes, answers: Boxes) -> object:
    try:
        return bits(find(truth, answers))
    except (ArithmeticError, TypeError, ValueError) as error:
        return type(error)


@settings(max_examples=500, deadline=None)
@given(truth=MANY, answers=MANY)
def test_many_boxes_are_matched_as_few_are(truth: Boxes, answers: Boxes) -> None:
    found = matching._match_many(truth, answers)
    if found is not None:
        assert bits(found) == outcome(match_plainly, truth, answers)


@pytest.mark.parametrize("seed", range(4))
def test_blocks_do_not_change_what_is_matched(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    corners = [(draw.randrange(60), draw.uniform(0, 60)) for _ in range(90)]
    truth = [[x, y, x + 9, y + 9] for x, y in corners[:50]]
    answers = [[x + draw.uniform(-2, 2), y, x + 9, y + draw.randrange(7, 11)] for x, y in corners[10:]] * 2
    expected = bits(match_plainly(truth, answers))
    monkeypatch.setattr(matching, "_BLOCK_PAIRS", 130)
    assert bits(match(truth, answers)) == expected
    assert any(match(truth, answers))


def test_where_float64_differs_the_plain_loop_decides() -> None:
    box = [0, 0, 10**20, 10**20 + 1]
    many = [[0, 0, 10**20, 10**20 + 1 + place] for place in range(20)]
    assert matching._match_many(many, many) is None
    assert match(many, many) == [1.0] * 20
    with pytest.raises(TypeError):
        match(many, [cast(list[float], ["a", "b", "c", "d"])] * 20)
    assert match([box], [box]) == [1.0]
    tiny = [[0.0, 0.0, 1e-200, 1e-200 * place] for place in range(1, 20)]
    assert outcome(match, tiny, tiny) is ZeroDivisionError


def test_without_numpy_the_plain_loop_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    boxes = [[place, 0, place + 3, 3] for place in range(30)]
    assert matching._match_many(boxes, boxes) is None
    assert match(boxes, boxes) == [1.0] * 30
