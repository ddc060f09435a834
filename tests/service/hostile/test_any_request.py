"""Any request at all is answered by the schema."""

import json
from typing import Any

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.hostile.pictures import PICTURE, encoded, grey, png
from tests.service.hostile.sending import CONTROL, checked
from tests.service.running import scored

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.lists(
    st.sampled_from([*CONTROL, "<image>", "\n\n", "\n", " ", "\0", "🙂", "+", "-", "word", "\u202e"]), max_size=12
).map("".join)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PICTURES = st.sampled_from([PICTURE, encoded(grey(3, 200)), encoded(png(5, 5)), "sha256:00", "data:,x"]) | TEXTS
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "images": st.lists(PICTURES, max_size=3),
    "mode": st.sampled_from(["steps", "whole"]),
    "max_steps": st.integers(0, 5),
    "max_tiles": st.integers(0, 66),
    "aggregate": st.sampled_from(["mean", "min", "max", "product", "last", "sum"]),
    "control_tokens": st.sampled_from(["parse", "literal", "refuse"]),
    "priority": st.sampled_from(["online", "train", "batch"]),
    "deadline_ms": st.integers(-1, 50) | st.just(2**53),
    "id": TEXTS,
    "model": st.just("visualprm") | TEXTS,
}
REQUESTS = st.builds(
    lambda fields, wrong: fields | wrong,
    st.fixed_dictionaries(
        {
            "question": TEXTS,
            "candidates": st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4),
        },
        optional=FIELDS,
    ),
    st.just({}) | st.dictionaries(st.sampled_from([*FIELDS, "question", "candidates"]) | TEXTS, ANYTHING, max_size=1),
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=REQUESTS, stream=st.booleans())
def test_any_request_is_answered_by_the_schema(api: httpx2.Client, request: dict[str, Any], stream: bool) -> None:
    content = json.dumps(request).encode()
    whole = checked(api.post("/score_steps", content=content))
    if whole.status_code == 200:
        answer = scored(whole)
        assert [result.index for result in answer.results] == list(range(len(request["candidates"])))
        for result in answer.results:
            assert (result.status == "ok") == (result.score is not None) == (result.step_logits is not None)
        assert sorted(answer.ranking) == [result.index for result in answer.results if result.status == "ok"]
    if stream:
        lines = api.post("/score_steps", content=content, headers={"Accept": "application/x-ndjson"})
        assert lines.status_code in (whole.status_code, 200, 409)
        if lines.status_code == 200:
            assert len(lines.text.splitlines()) == 1 + len(request["candidates"])
