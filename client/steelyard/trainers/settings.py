"""A scorer from the plain values that a trainer's own configuration holds."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, cast

from steelyard.errors import InvalidCall
from steelyard.trainers.options import Options
from steelyard.trainers.scorer import Scorer

# The key is not among them: it comes from STEELYARD_API_KEY, since a run's configuration is logged.
_OF_SCORER = ("url", "max_concurrency", "timeout_s")
_OF_OPTIONS = tuple(field.name for field in fields(Options))


def scorer_of(settings: Mapping[str, object]) -> Scorer:
    """One scorer for equal settings, however often they are given: `url`, `kind`, `model` and the other options.

    Raises InvalidCall for a name or a value that is none.
    """
    unknown = sorted(set(settings) - {*_OF_SCORER, *_OF_OPTIONS})
    if unknown:
        raise InvalidCall(f"{unknown[0]}: no such setting; there are {', '.join((*_OF_SCORER, *_OF_OPTIONS))}")
    for name, value in settings.items():
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidCall(f"{name}: a text, a number, true or false, not {type(value).__name__}")
    return _scorer(tuple(sorted(settings.items())))


@cache
def _scorer(settings: tuple[tuple[str, object], ...]) -> Scorer:
    given = cast(dict[str, Any], dict(settings))
    options = Options(**{name: given[name] for name in _OF_OPTIONS if name in given})
    return Scorer(options=options, **{name: given[name] for name in _OF_SCORER if name in given})
