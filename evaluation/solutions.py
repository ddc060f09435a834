"""From a policy's text to steps, an answer and whether it is right."""

import re

from evaluation.candidates import Answer, normal

# The last one counts: a solution may weigh earlier ones.
_ANSWER = re.compile(r"^[^\w\n]*(?:final +)?answer[^\w\n:]*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_AROUND = " \t*_`$()[]{}.\"'"


def split_steps(text: str) -> list[str]:
    """On blank lines; blank steps are none."""
    return [step.strip() for step in _BLANK_LINES.split(text.replace("\r\n", "\n")) if step.strip()]


def find_answer(text: str) -> str | None:
    """What stands after the last `Answer:`, markup around it left out."""
    found = _ANSWER.findall(text)
    return (found[-1].strip(_AROUND) or None) if found else None


def is_right(answer: str | None, expected: Answer) -> bool:
    """The same text, case aside, or the same number."""
    one, other = normal(answer), normal(expected)
    if one is None or other is None:
        return False
    try:
        return one == other or float(one.replace(",", "")) == float(other.replace(",", ""))
    except ValueError:
        return False
