"""From a policy's text to steps, an answer and whether it is right."""

import re

from evaluation.candidates import Answer
from steelyard.best_of_n.answers import normal

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def split_steps(text: str) -> list[str]:
    """On blank lines; blank steps are none."""
    return [step.strip() for step in _BLANK_LINES.split(text.replace("\r\n", "\n")) if step.strip()]


def is_right(answer: str | None, expected: Answer) -> bool:
    """The same text, case aside, or the same number."""
    one, other = normal(answer), normal(expected)
    if one is None or other is None:
        return False
    try:
        return one == other or float(one.replace(",", "")) == float(other.replace(",", ""))
    except ValueError:
        return False
