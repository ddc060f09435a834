"""Specifications that come with the client: the paper's recipes, strict and as upstream sums them."""

from collections.abc import Mapping

from steelyard.errors import InvalidCall
from steelyard.rewards.specification import Specification
from steelyard.rewards.tags import Mode

_RECIPES: Mapping[str, str] = {
    "detection": "iou + calibration + format",
    "classification": "classification + format",
    "grounding": "grounding + format",
    "maths": "maths + format",
    "multiple_choice": "multiple_choice + format",
}
_MODES: tuple[Mode, ...] = ("strict", "upstream")
_SUFFIX = {"strict": "", "upstream": "-upstream"}
# `detection` is strict, `detection-upstream` is the paper's, with `confidence` for `calibration`.
SHIPPED: Mapping[str, Specification] = {
    name + _SUFFIX[mode]: Specification.model_validate({"terms": recipe}).in_mode(mode)
    for mode in _MODES
    for name, recipe in _RECIPES.items()
}


def shipped(name: str, mode: Mode = "strict") -> Specification:
    """One of SHIPPED. Raises InvalidCall for another name."""
    found = SHIPPED.get(name + _SUFFIX[mode] if name in _RECIPES else name)
    if found is None:
        raise InvalidCall(f"{name!r} is no shipped specification; there are {', '.join(SHIPPED)}")
    return found
