import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.unpacking import outweighs

TEXTS = st.text(st.sampled_from(list('{[,"\\ x')), max_size=20)
BODIES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


def weight(value: object) -> int:
    """The same by the parsed value: a comma stands before each item but the first."""
    if isinstance(value, dict):
        return 1000 + 60 * max(0, len(value) - 1) + sum(map(weight, value.values()))
    if isinstance(value, list):
        return 100 + 60 * max(0, len(value) - 1) + sum(map(weight, value))
    return 0


@given(BODIES, st.booleans())
def test_only_what_stands_outside_of_strings_weighs(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert not outweighs(body, weight(value))
    assert not weight(value) or outweighs(body, weight(value) - 1)


@pytest.mark.parametrize("item", [b"1,", b"[],", b"{},", b'{"a":1},', b'"",'])
def test_a_body_of_many_small_things_outweighs_its_bytes(item: bytes) -> None:
    assert outweighs(b"[" + item * 3_000_000 + b"1]", 2 * len(item) * 3_000_000)


def test_a_long_text_of_code_weighs_nothing() -> None:
    assert not outweighs(json.dumps({"text": '{"a": [1, 2, "\\\\"]}, ' * 500_000}).encode(), 10_000)
