"""Overlap of all boxes found and how fitting their confidences are. Reads response and solution.

All are 0 to 1 in strict mode. Upstream's `iou` is too; its `confidence` may be NaN.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from sys import float_info
from typing import Any, NamedTuple

from steelyard.rewards.failures import UnusableTruth
from steelyard.rewards.matching import match
from steelyard.rewards.maths import equal_anywhere
from steelyard.rewards.tags import CLOSE, OPEN, Mode, first_answer, only_answer, solution_content

Box = Sequence[float]
_NOTHING = "noobjects"
_MOST = float_info.max
_CONFIDENCE = itemgetter(1)
_scan = json.JSONDecoder().raw_decode
# A solution is read once for all the answers to it, unless keeping it would take much memory.
_KEPT_SOLUTIONS, _KEPT_CHARACTERS = 512, 4096
_FAILURES = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


class Detection(NamedTuple):
    """The paper's two rewards, and one in place of the second that pays for no box that is wrong.

    `confidence` is a mean over the answer's boxes: each wrong one that is given with confidence 0 raises it.
    `calibration` adds 1 - (1 - c)² for a box that is matched and takes c² off for one that is not, over the number of
    true or of answered boxes, whichever is greater: a wrong box earns nothing, and honest confidences earn the most.
    """

    iou: float
    confidence: float
    calibration: float


class Pair(NamedTuple):
    """An answered box: its IoU with the box that it took, 0 for none, and the confidence that was given for it."""

    iou: float
    confidence: float


_ZERO, _FULL = Detection(0.0, 0.0, 0.0), Detection(1.0, 1.0, 1.0)
_UPSTREAM_FULL = Detection(1.0, 1.0, 0.0)


def detection_rewards(response: str, truth: str, mode: Mode = "strict", *, maths_first: bool = True) -> Detection:
    """Upstream has no `calibration`. It gives both others in full for equal mathematics before it looks at any box.

    Strict raises UnusableTruth for a solution that is neither a list of proper boxes nor `No Objects`.
    """
    if mode == "upstream":
        return _UPSTREAM_FULL if maths_first and equal_anywhere(response, truth) else _upstream(response, truth)
    expected = _kept_solution(truth) if len(truth) <= _KEPT_CHARACTERS else _solution(truth)
    if expected is None:
        raise UnusableTruth("the solution is neither a list of boxes with x1 < x2 and y1 < y2 nor No Objects")
    content = only_answer(response)
    answers = None if content is None else _proper_answers(content)
    if answers is None:
        return _ZERO
    if not answers or not expected:
        return _ZERO if answers or expected else _FULL
    try:
        ordered = sorted(answers.items(), key=_CONFIDENCE, reverse=True) if len(answers) > 1 else list(answers.items())
        overlaps = match(expected, [position for position, _ in ordered])
        if not any(overlaps):
            return _ZERO
        found = _summed(overlaps, [confidence for _, confidence in ordered], len(expected))
    except ArithmeticError:
        return _ZERO
    iou, confidence, calibration = found
    return Detection(min(1.0, iou), min(1.0, confidence), min(1.0, max(0.0, calibration)))


def read_boxes(text: str) -> Any:  # noqa: ANN401
    """Upstream's extraction: JSON of what the first answer tags hold, an unfinished last box dropped; None for none."""
    start = text.find(OPEN)
    if start < 0:
        return None
    end = text.find(CLOSE)
    content = text[start + len(OPEN) : end if end >= 0 else len(text)]
    if not content.endswith("]"):
        cut = content.rfind("},")
        content = (content if cut < 0 else content[:cut]) + "}]"
    try:
        return json.loads(content.replace("'", '"'))
    except (ValueError, RecursionError):
        return None


def is_proper(content: str) -> bool:
    """Whether strict mode reads the answer's content as boxes or as none, right or wrong."""
    return _proper_answers(content.strip()) is not None


def pairs_of(truth: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Answers with the box that each takes, best confidence first, equal positions once.

    Raises TypeError, ValueError, KeyError or ArithmeticError for what is no box.
    """
    seen: set[tuple[object, ...]] = set()
    distinct = []
    for answer in answers:
        position = tuple(answer["Position"])
        if position not in seen:
            seen.add(position)
            distinct.append(answer)
    distinct.sort(key=lambda answer: answer["Confidence"], reverse=True)
    overlaps = match([box["Position"] for box in truth], [answer["Position"] for answer in distinct])
    return [Pair(iou, answer["Confidence"]) for iou, answer in zip(overlaps, distinct, strict=True)]


def summed(pairs: Sequence[Pair], boxes: int) -> Detection:
    """The rewards before they are clamped, for so many true boxes."""
    return _summed([pair.iou for pair in pairs], [pair.confidence for pair in pairs], boxes)


def _summed(overlaps: Sequence[float], confidences: Sequence[float], boxes: int) -> Detection:
    iou = confidence = calibration = 0.0
    for overlap, claimed in zip(overlaps, confidences, strict=True):
        if overlap:
            iou += overlap
            confidence += claimed
            calibration += claimed * (2 - claimed)
        else:
            confidence += 1 - claimed
            calibration -= claimed * claimed
    most = max(boxes, len(overlaps))
    return Detection(iou / most, confidence / len(overlaps), calibration / most)


def _upstream(response: str, truth: str) -> Detection:
    content = first_answer(response, across_lines=False)
    answer = OPEN + (response if content is None else content).strip() + CLOSE
    answers = read_boxes(answer.replace("[[", "[").replace("]]", "]").replace("\n", ""))
    try:
        if answers is None or type(answers[0]) is not dict:
            return _ZERO
        expected = read_boxes(truth.strip())
        iou, confidence, _ = summed(pairs_of(expected, answers), len(expected))
    except _FAILURES:
        return _ZERO
    if iou > 1:
        iou = 1.0
    # A NaN passes both comparisons.
    if confidence > 1:
        confidence = 1.0
    if confidence < 0:
        confidence = 0.0
    return Detection(iou, confidence, 0.0)


def _proper_answers(content: str) -> dict[tuple[float, ...], float] | None:
    """Confidence by position, the first of equal positions; None where anything at all is improper."""
    rows = _listed(content)
    if rows is None:
        return None
    answers: dict[tuple[float, ...], float] = {}
    for row in rows:
        position = _proper_position(row)
        if position is None:
            return None
        confidence = row.get("Confidence")
        if not (type(confidence) in (int, float) and 0 <= confidence <= 1):
            return None
        answers.setdefault(position, confidence)
    return answers


def _solution(truth: str) -> tuple[tuple[float, ...], ...] | None:
    """The true boxes, whatever their confidences; None where they are unusable."""
    content = solution_content(truth)
    rows = None if content is None else _listed(content)
    if rows is None:
        return None
    boxes = []
    for row in rows:
        position = _proper_position(row)
        if position is None:
            return None
        boxes.append(position)
    return tuple(boxes)


_kept_solution = lru_cache(_KEPT_SOLUTIONS)(_solution)


def _listed(content: str) -> list[Any] | None:
    """The JSON list that the text is, single quotes for double ones allowed; `No Objects` is the empty one."""
    if content[:1] != "[":
        return [] if content.replace(" ", "").replace("_", "").lower() == _NOTHING else None
    text = content.replace("'", '"')
    try:
        # The content is stripped: what json.loads looks for around a value is not there.
        rows, end = _scan(text, 0)
    except (ValueError, RecursionError):
        return None
    return rows if end == len(text) else None


def _proper_position(row: object) -> tuple[float, ...] | None:
    """Four finite numbers with x1 < x2 and y1 < y2."""
    position = row.get("Position") if type(row) is dict else None
    if type(position) is not list or len(position) != 4:
        return None
    for number in position:
        if type(number) is not int and type(number) is not float:
            return None
    x1, y1, x2, y2 = position
    # Integers beyond floats fail these too, and so does a NaN.
    if -_MOST <= x1 < x2 <= _MOST and -_MOST <= y1 < y2 <= _MOST:
        return x1, y1, x2, y2
    return None
