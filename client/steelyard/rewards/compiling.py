"""From a specification's terms to what is called for each response."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite

from steelyard.rewards.classification import classification_reward
from steelyard.rewards.detection import Detection, detection_rewards
from steelyard.rewards.evaluation import Compiled, Part, Reading, Settle
from steelyard.rewards.failures import NotFinite, ScoreMissing, UnusableTruth
from steelyard.rewards.grounding import grounding_reward
from steelyard.rewards.maths import maths_reward
from steelyard.rewards.multiple_choice import multiple_choice_reward
from steelyard.rewards.tag_format import format_reward
from steelyard.rewards.tags import Mode
from steelyard.rewards.terms import (
    FormatTerm,
    MathsTerm,
    MultipleChoiceTerm,
    ServedTerm,
    Term,
    name_of,
)

# Read off one pass over the boxes.
_PLACES = {name: Detection._fields.index(name) for name in Detection._fields}


def compiled(terms: Sequence[Term], mode: Mode, settle: Sequence[Settle], *, maths_first: bool) -> Compiled:
    """Terms that are read off the same pass share it."""
    readings: list[Reading] = []
    parts: list[Part] = []
    detection: int | None = None
    for term in terms:
        place = _PLACES.get(term.kind)
        if place is not None and detection is not None:
            parts.append(Part(name_of(term), term.weight, detection, place))
            continue
        if place is not None:
            detection = len(readings)
        parts.append(Part(name_of(term), term.weight, len(readings), place or 0))
        readings.append(_reading(term, mode, maths_first=maths_first))
    return Compiled(tuple(readings), tuple(parts), tuple(settle))


def _reading(term: Term, mode: Mode, *, maths_first: bool) -> Reading:
    if isinstance(term, FormatTerm):
        return lambda response, truth, served: (format_reward(response, mode),)
    if isinstance(term, ServedTerm):
        return partial(_served, term)
    if term.kind in _PLACES:
        detect = partial(detection_rewards, mode=mode, maths_first=maths_first)
        return lambda response, truth, served: detect(response, _given(truth))
    if isinstance(term, MathsTerm):
        return _single(partial(maths_reward, mode=mode, most_characters=term.most_characters))
    if isinstance(term, MultipleChoiceTerm):
        return _single(partial(multiple_choice_reward, mode=mode, choices=term.choices, maths_first=maths_first))
    reward = grounding_reward if term.kind == "grounding" else classification_reward
    return _single(partial(reward, mode=mode, maths_first=maths_first))


def _single(reward: Callable[[str, str], float]) -> Reading:
    return lambda response, truth, served: (reward(response, _given(truth)),)


def _given(truth: str | None) -> str:
    if truth is None:
        raise UnusableTruth("there is no solution, which a term reads")
    return truth


def _served(term: ServedTerm, response: str, truth: str | None, served: Mapping[str, float]) -> Sequence[float]:
    score = served.get(term.model)
    if score is None:
        raise ScoreMissing(f"{term.model}: there is no score of this model")
    if not isfinite(score):
        raise NotFinite(f"{term.model}: its score is {score}")
    return (term.clipped(score),)
