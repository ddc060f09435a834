"""The Arrow types of the columns that filtering adds, so that one that is all null has its type too."""

from collections.abc import Sequence
from typing import Any

from steelyard.data.extras import arrow

pa = arrow()
_NUMBERS = pa.list_(pa.float64())
_TYPES = {
    "score": pa.float64(),
    "score_status": pa.string(),
    "score_detail": pa.string(),
    "step_scores": _NUMBERS,
    "step_logits": _NUMBERS,
    "step_spans": pa.list_(pa.list_(pa.int64())),
}


def added_array(name: str, values: Sequence[Any], *, several: bool) -> Any:  # noqa: ANN401
    """A column whose values are one candidate's each, or with `several` lists of them."""
    known = next((kind for ending, kind in _TYPES.items() if name.endswith(ending)), pa.int64())
    return pa.array(values, pa.list_(known) if several else known)
