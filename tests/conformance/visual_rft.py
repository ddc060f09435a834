"""Visual-RFT's golden cases: upstream bit for bit, with and without its maths step, and strict mode's answers."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steelyard.rewards.boxes import generalised_iou_plus_one, intersection_over_union
from steelyard.rewards.classification import classification_reward
from steelyard.rewards.detection import detection_rewards, pairs_of, read_boxes, summed
from steelyard.rewards.failures import UnusableTruth
from steelyard.rewards.grounding import grounding_reward
from steelyard.rewards.tag_format import format_reward
from steelyard.rewards.tags import Mode
from tests.conformance.report import Verdict

Case = Mapping[str, Any]
TOLERANCE = 1e-12
_SPELT = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def verdicts(cases: Path, checkpoint: Path | None, url: str | None) -> Iterator[Verdict]:
    """One verdict a case; neither a checkpoint nor a server is used."""
    text = cases.read_text(encoding="utf-8")
    rows = json.loads(text) if cases.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    for case in rows:
        try:
            yield verdict_of(case)
        except Exception as error:  # noqa: BLE001 - one case must not end the run
            yield Verdict(case["id"], [f"{type(error).__name__}: {error}"])


def verdict_of(case: Case) -> Verdict:
    verdict = Verdict(case["id"])
    given = case["input"]
    if case["kind"] in _UNITS:
        _compare(verdict, "value", _UNITS[case["kind"]](given), case["expected"])
        return verdict
    expected = upstream_expected(case)
    without = case.get("expected_without_math", case["expected"])
    _compare(verdict, "upstream", reward(case["kind"], given, "upstream", maths_first=True), expected)
    _compare(verdict, "without maths", reward(case["kind"], given, "upstream", maths_first=False), without)
    if "strict" in case:
        try:
            found: object = reward(case["kind"], given, "strict")
        except UnusableTruth:
            found = {"refuse": True}
        _compare(verdict, "strict", found, case["strict"])
    return verdict


def upstream_expected(case: Case) -> Any:  # noqa: ANN401
    """What upstream gives with the math-verify that is installed."""
    by_version = case.get("expected_by_math_verify")
    found = by_version.get(version("math-verify")) if by_version else None
    if found is None:
        return case["expected"]
    # By version either the rewards themselves, or a case's fields.
    return found.get("expected", found)


def reward(kind: str, given: Case, mode: Mode, *, maths_first: bool = True) -> dict[str, float]:
    """The rewards of one kind by name. Raises UnusableTruth."""
    response = given["content"]
    if kind == "format":
        return {"reward": format_reward(response, mode)}
    if kind == "detection":
        found = detection_rewards(response, given["solution"], mode, maths_first=maths_first)
        return {"iou": found.iou, "confidence": found.confidence}
    accuracy = grounding_reward if kind == "grounding" else classification_reward
    return {"reward": accuracy(response, given["solution"], mode, maths_first=maths_first)}


def _iou(given: Case) -> dict[str, object]:
    return {"value": intersection_over_union(_read(given["a"]), _read(given["b"]))}


def _giou(given: Case) -> dict[str, object]:
    truth, answer = ([number / given["scale"] for number in _read(given[name])] for name in ("truth", "answer"))
    return {"value": generalised_iou_plus_one(truth, answer)}


def _extract(given: Case) -> dict[str, object]:
    return {"value": read_boxes(given["text"])}


def _match(given: Case) -> dict[str, object]:
    truth, answers = _read(given["truth"]), _read(given["answer"])
    pairs = pairs_of(truth, answers)
    sums = summed(pairs, len(truth))
    return {
        "pairs": [list(pair) for pair in pairs],
        "iou": min(1.0, sums.iou),
        "confidence_unclamped": sums.confidence,
    }


_UNITS: Mapping[str, Callable[[Case], dict[str, object]]] = {
    "extract_bbox": _extract,
    "iou": _iou,
    "giou_plus_one": _giou,
    "match": _match,
}


def _compare(verdict: Verdict, what: str, found: Any, expected: Any) -> None:  # noqa: ANN401
    if not _is_same(found, expected):
        verdict.exactly(what, found, expected)
    elif isinstance(expected, Mapping):
        offs = [abs(found[name] - value) for name, value in expected.items() if type(value) is float]
        verdict.worst = max([verdict.worst, *(off for off in offs if math.isfinite(off))])


def _is_same(found: Any, expected: Any) -> bool:  # noqa: ANN401
    """Equal, floats to TOLERANCE; what is not finite is spelt out in the file."""
    if isinstance(expected, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == expected.keys()
            and all(_is_same(found[name], value) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return isinstance(found, Sequence) and len(found) == len(expected) and all(map(_is_same, found, expected))
    if isinstance(found, float) and isinstance(expected, str):
        spelt = _SPELT.get(expected)
        return spelt is not None and (found == spelt or (math.isnan(found) and math.isnan(spelt)))
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return type(found) is bool is type(expected) or abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
    return bool(found == expected)


def _read(value: Any) -> Any:  # noqa: ANN401
    """The input with what is spelt out made a float again."""
    if isinstance(value, list):
        return [_read(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _read(one) for name, one in value.items()}
    return _SPELT.get(value, value) if isinstance(value, str) else value
