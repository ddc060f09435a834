"""`0.9 * iou + 0.1 * format`: a weighted sum as a short text, read word by word and never run."""

import re

from pydantic_core import PydanticCustomError

from steelyard.rewards.terms import KINDS

_KINDS = tuple(kind for kind in KINDS if kind != "served")
_MOST_CHARACTERS = 4_096
_WORD = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|\.[0-9]+)|([A-Za-z_]+)|(\S))")
_SERVED = re.compile(r"\s*\(\s*([^()]+?)\s*\)")


def read_expression(text: str) -> list[dict[str, object]]:
    """The terms, as they would stand in a list: `iou`, `0.9 * iou`, `-0.1 * format`, `0.5 * served(visualprm)`.

    Raises PydanticCustomError that names the character at which it is no such sum.
    """
    if len(text) > _MOST_CHARACTERS:
        raise _wrong(_MOST_CHARACTERS, "the expression is too long")
    terms: list[dict[str, object]] = []
    place, sign = 0, 1.0
    while True:
        place, term = _term(text, place, sign)
        terms.append(term)
        joint = _WORD.match(text, place)
        if joint is None:
            return terms
        if joint[3] not in ("+", "-"):
            raise _wrong(joint.start(joint.lastindex or 0), f"{joint[0].strip()!r} stands where + or - is due")
        place, sign = joint.end(), -1.0 if joint[3] == "-" else 1.0


def _term(text: str, place: int, sign: float) -> tuple[int, dict[str, object]]:
    """Where the term ends, and it."""
    word = _WORD.match(text, place)
    if word is not None and word[3] in ("+", "-"):
        sign, word = -sign if word[3] == "-" else sign, _WORD.match(text, word.end())
    weight = sign
    if word is not None and word[1]:
        weight = sign * float(word[1])
        star = _WORD.match(text, word.end())
        if star is None or star[3] != "*":
            raise _wrong(word.end(), "a weight is followed by * and a term")
        word = _WORD.match(text, star.end())
    if word is None:
        raise _wrong(len(text), "a term is due")
    if word[2] == "served":
        model = _SERVED.match(text, word.end())
        if model is None:
            raise _wrong(word.end(), "served is followed by a model's name in brackets")
        return model.end(), {"kind": "served", "model": model[1], "weight": weight}
    if word[2] not in _KINDS:
        known = ", ".join((*_KINDS, "served(MODEL)"))
        raise _wrong(word.start(word.lastindex or 0), f"{word[0].strip()!r} is no term; there are {known}")
    return word.end(), {"kind": word[2], "weight": weight}


def _wrong(place: int, reason: str) -> PydanticCustomError:
    return PydanticCustomError("expression", "character {place}: {reason}", {"place": place + 1, "reason": reason})
