"""Overlap of axis-parallel boxes (x1, y1, x2, y2), in the numbers that are given: no rounding, no added pixel."""

from collections.abc import Sequence


def intersection_over_union(truth: Sequence[float], answer: Sequence[float]) -> float:
    """0.0 where the intersection has no positive width or height. Raises ZeroDivisionError for areas that vanish.

    A box whose corners are reversed overlaps nothing.
    """
    ax1, ay1, ax2, ay2 = truth
    bx1, by1, bx2, by2 = answer
    # What max() and min() give for this order, also with a NaN, at a third of their time.
    x1, y1 = bx1 if bx1 > ax1 else ax1, by1 if by1 > ay1 else ay1
    x2, y2 = bx2 if bx2 < ax2 else ax2, by2 if by2 < ay2 else ay2
    if x2 <= x1 or y2 <= y1:
        return 0.0
    common = (x2 - x1) * (y2 - y1)
    return common / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common)


def generalised_iou_plus_one(truth: Sequence[float], answer: Sequence[float]) -> float:
    """0 to 2 for boxes with ordered corners. Unbounded for reversed ones, whose signed areas are taken as they are."""
    ax1, ay1, ax2, ay2 = truth
    bx1, by1, bx2, by2 = answer
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    common = max(0, width) * max(0, height)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    overlap = common / union if union > 0 else 0
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return (overlap - (hull - union) / hull if hull > 0 else overlap) + 1
