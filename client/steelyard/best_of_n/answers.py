"""What a solution answers: the text after its last `Answer:`, and which answers are one."""

import re

# The last one counts: a solution may weigh earlier ones.
_ANSWER = re.compile(r"^[^\w\n]*(?:final +)?answer[^\w\n:]*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_AROUND = " \t*_`$()[]{}.\"'"


def final_answer(text: str) -> str | None:
    """What stands after the last `Answer:`, markup around it left out; None where nothing does."""
    found = _ANSWER.findall(text)
    return (found[-1].strip(_AROUND) or None) if found else None


def normal(answer: str | float | None) -> str | None:
    """Answers that are one vote: case, outer blanks and a final full stop aside."""
    return None if answer is None else str(answer).strip().removesuffix(".").strip().casefold() or None
