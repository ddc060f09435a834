"""Which answered box belongs to which true one: greedy by confidence, each to the best that is left, above IoU 0.5.

The same pairs, bit for bit, whichever way they are found: the plain loop is the definition, and many boxes go through
numpy where it is installed and the numbers are such that float64 does exactly what Python's do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steelyard.rewards.boxes import intersection_over_union

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

THRESHOLD = 0.5
Boxes = Sequence[Sequence[float]]
# Below so many pairs the plain loop is as quick.
_FEW_PAIRS = 256
# Pairs whose overlaps are held at once, 8 bytes each.
_BLOCK_PAIRS = 2**20
# Up to these, products and sums of integers are exact in float64, and those of floats stay finite.
_MOST_INTEGER, _MOST_FLOAT = 2.0**24, 1e100


def match(truth: Boxes, answers: Boxes) -> list[float]:
    """The IoU of each answer with the box that it takes, 0 for none; answers come best confidence first.

    Raises what the arithmetic of improper boxes raises: TypeError, ValueError, ZeroDivisionError, OverflowError.
    """
    if len(truth) * len(answers) > _FEW_PAIRS:
        found = _match_many(truth, answers)
        if found is not None:
            return found
    return match_plainly(truth, answers)


def match_plainly(truth: Boxes, answers: Boxes) -> list[float]:
    """The definition."""
    left = list(truth)
    found: list[float] = []
    for answer in answers:
        best, place = 0.0, -1
        for index, box in enumerate(left):
            overlap = intersection_over_union(box, answer)
            if overlap > best:
                best, place = overlap, index
        if best > THRESHOLD:
            del left[place]
            found.append(best)
        else:
            found.append(0)
    return found


def _match_many(truth: Boxes, answers: Boxes) -> list[float] | None:
    """None where numpy is absent, or might not give the very same bits."""
    try:
        import numpy as np
    except ImportError:
        return None
    if not (_is_plain(truth) and _is_plain(answers)):
        return None
    left = np.array(truth, np.float64).reshape(-1, 4).T
    answered = np.array(answers, np.float64).reshape(-1, 4).T
    found: list[float] = []
    while len(found) < len(answers):
        if not left.shape[1]:
            return found + [0] * (len(answers) - len(found))
        rows = max(1, _BLOCK_PAIRS // left.shape[1])
        overlaps = _overlaps(left, answered[:, len(found) : len(found) + rows])
        if overlaps is None:
            return None
        taken = _take(overlaps, found)
        left = np.delete(left, taken, axis=1)
    return found


def _is_plain(boxes: Sequence[Sequence[object]]) -> bool:
    """Four numbers each, which float64 holds, and whose products it holds too."""
    for box in boxes:
        if len(box) != 4:
            return False
        for number in box:
            kind = type(number)
            if not (
                (isinstance(number, int) and kind is not bool and -_MOST_INTEGER <= number <= _MOST_INTEGER)
                or (isinstance(number, float) and -_MOST_FLOAT <= number <= _MOST_FLOAT)
            ):
                return False
    return True


def _overlaps(truth: "npt.NDArray[np.float64]", answers: "npt.NDArray[np.float64]") -> Any:  # noqa: ANN401
    """(answers, truth); None where a union vanishes. Both are (4, boxes)."""
    import numpy as np

    x1, y1, x2, y2 = answers[:, :, None]
    common = np.minimum(truth[2], x2)
    common -= np.maximum(truth[0], x1)
    height = np.minimum(truth[3], y2)
    height -= np.maximum(truth[1], y1)
    apart = common <= 0
    apart |= height <= 0
    common *= height
    union = np.add((truth[2] - truth[0]) * (truth[3] - truth[1]), (x2 - x1) * (y2 - y1), out=height)
    union -= common
    union[apart] = 1.0
    if not (union > 0).all():
        return None
    common /= union
    common[apart] = 0.0
    return common


def _take(overlaps: Any, found: list[float]) -> list[int]:  # noqa: ANN401
    """Adds each row's best to `found`; the columns that were taken."""
    taken: list[int] = []
    for row in overlaps:
        place = int(row.argmax())
        best = float(row[place])
        if best > THRESHOLD:
            overlaps[:, place] = 0.0
            taken.append(place)
            found.append(best)
        else:
            found.append(0)
    return taken
