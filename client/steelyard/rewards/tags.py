"""Where the answer stands in a response, found in one pass over the text, and the two ways of reading it."""

from typing import Literal

# `upstream` is the paper's code bit for bit, exploits included; `strict` closes them.
Mode = Literal["strict", "upstream"]
OPEN, CLOSE = "<answer>", "</answer>"


def first_answer(text: str, *, across_lines: bool) -> str | None:
    """What upstream's pattern finds: the first opening tag that a closing tag follows, in one line or anywhere."""
    start = text.find(OPEN)
    while start >= 0:
        begin = start + len(OPEN)
        line_end = -1 if across_lines else text.find("\n", begin)
        end = text.find(CLOSE, begin) if line_end < 0 else text.find(CLOSE, begin, line_end)
        if end >= 0:
            return text[begin:end]
        # No later opening tag of the same line has a closing one either.
        start = -1 if line_end < 0 else text.find(OPEN, line_end)
    return None


def only_answer(text: str) -> str | None:
    """The stripped content where there is exactly one opening and one closing tag, in this order; else None."""
    span = only_span(text)
    return None if span is None else text[span[0] : span[1]].strip()


def only_span(text: str) -> tuple[int, int] | None:
    """Where that content begins and ends."""
    start, end = text.find(OPEN), text.find(CLOSE)
    if start < 0 or end < start or text.rfind(OPEN) != start or text.rfind(CLOSE) != end:
        return None
    return start + len(OPEN), end


def solution_content(text: str) -> str | None:
    """The solution's stripped content, which may stand without tags; None where its tags are no single pair."""
    if OPEN not in text and CLOSE not in text:
        return text.strip()
    return only_answer(text)
