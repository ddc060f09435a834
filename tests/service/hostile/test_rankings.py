"""Any ranking at all is answered in time and by the schema, whichever models it asks."""

import json
import math
from typing import Any

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.rank_schema import RankResponse
from steelyard.schema import ErrorResponse
from tests.service.hostile.requests import ANYTHING, COMMON, IMAGES, MESSAGES, TEXTS
from tests.service.hostile.sending import ALLOWED

MODELS = ["visualprm", "ixc_reward"]
CANDIDATES = st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4)
BLENDS = st.dictionaries(st.sampled_from([*MODELS, "other"]), st.floats(1e-9, 1e6) | st.floats(), max_size=3)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    **COMMON,
    "weights": st.dictionaries(st.sampled_from(MODELS), TEXTS, max_size=1),
    "images": IMAGES,
    "normalize": st.sampled_from(["zscore", "rank", "none", None]),
    "aggregate": st.sampled_from(["mean", "min", "product", "sum"]),
    "blend": BLENDS,
}
RANKINGS = (
    st.fixed_dictionaries({"question": TEXTS, "candidates": CANDIDATES}, optional=OPTIONS)
    | st.fixed_dictionaries({"messages": MESSAGES, "candidates": CANDIDATES}, optional=OPTIONS)
    | st.fixed_dictionaries(
        {"question": TEXTS, "candidates": CANDIDATES, "model": st.sampled_from(MODELS)},
        optional={**OPTIONS, "blend": st.none(), "surplus": ANYTHING},
    )
)


@settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(fields=RANKINGS)
def test_any_ranking_is_answered_by_the_schema(api: httpx2.Client, fields: dict[str, Any]) -> None:
    response = api.post("/rank", content=json.dumps(fields).encode())
    assert response.status_code in ALLOWED, response.text[:300]
    if response.status_code != 200:
        ErrorResponse.model_validate_json(response.content)
        return
    answer = RankResponse.model_validate_json(response.content)
    assert [result.index for result in answer.results] == list(range(len(fields["candidates"])))
    for result in answer.results:
        assert (result.status == "ok") == (result.score is not None) == (result.retryable is None)
        assert result.score is None or math.isfinite(result.score)
        assert (result.score is None) == any(one.score is None for one in result.models.values())
        assert set(result.models) == set(answer.models)
    scores = {result.index: result.score for result in answer.results if result.score is not None}
    assert answer.ranking == sorted(scores, key=lambda index: (-scores[index], index))
    assert answer.best == (answer.ranking[0] if answer.ranking else None)
