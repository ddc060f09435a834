"""Generalised IoU of one box against the true one, plus 1. Reads response and solution, in thousandths.

0 to 2 in strict mode: any one proper box earns something, no proper box nothing. Unbounded upstream.
"""

import re

from steelyard.rewards.boxes import generalised_iou_plus_one
from steelyard.rewards.failures import UnusableTruth
from steelyard.rewards.maths import equal_anywhere
from steelyard.rewards.tags import Mode, first_answer, only_answer, solution_content

Box = tuple[float, float, float, float]
_CORNERS = r"\(\s*({0})\s*,\s*({0})\s*\)\s*,\s*\(\s*({0})\s*,\s*({0})\s*\)"
_ANYWHERE = re.compile(_CORNERS.format(r"\d+"))
_ALONE = re.compile(_CORNERS.format(r"[0-9]{1,4}"))
_MOST = 1000


def grounding_reward(response: str, truth: str, mode: Mode = "strict", *, maths_first: bool = True) -> float:
    """Upstream gives 1.0 for equal mathematics before it looks at any box.

    Strict raises UnusableTruth for a solution that is not one proper box.
    """
    if mode == "upstream":
        return 1.0 if maths_first and equal_anywhere(response, truth) else _upstream(response, truth)
    solution = solution_content(truth)
    expected = None if solution is None else _proper_box(solution)
    if expected is None:
        raise UnusableTruth("the solution is not one box (x1,y1),(x2,y2) with 0 ≤ x1 < x2 ≤ 1000, and y likewise")
    answer = only_answer(response)
    found = None if answer is None else _proper_box(answer)
    if found is None:
        return 0.0
    if found == expected:
        return 2.0
    return min(2.0, max(0.0, generalised_iou_plus_one(expected, found)))


def _proper_box(text: str) -> Box | None:
    match = _ALONE.fullmatch(text)
    if match is None:
        return None
    x1, y1, x2, y2 = map(int, match.groups())
    if not (x1 < x2 <= _MOST and y1 < y2 <= _MOST):
        return None
    return x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000


def _upstream(response: str, truth: str) -> float:
    content, solution = first_answer(response, across_lines=True), first_answer(truth, across_lines=False)
    answer = (response if content is None else content).strip()
    expected = (truth if solution is None else solution).strip()
    # Equal texts earn it even where neither holds a box.
    if answer == expected:
        return 2.0
    try:
        return float(generalised_iou_plus_one(_first_corners(expected), _first_corners(answer)))
    except (ValueError, OverflowError, IndexError):
        return 0.0


def _first_corners(text: str) -> Box:
    """Of several boxes the first corners of the first two, as upstream lists corners.

    Raises IndexError without a box, ValueError for more digits than Python reads, OverflowError beyond floats.
    """
    boxes = [[int(number) / 1000 for number in match.groups()] for match in _ANYWHERE.finditer(text)]
    corners = [box[:2] for box in boxes] + [box[2:] for box in boxes]
    (x1, y1), (x2, y2) = corners[0], corners[1]
    return x1, y1, x2, y2
