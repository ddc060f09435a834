"""VisualPRM's own dialogue, a turn a step and `+` for every answer, read back into its question and its steps."""

from collections.abc import Sequence

_QUESTION = "### Question:\n"
_SOLUTION = "\n\n### Solution Process:\n"
_HISTORY = "+"


def read_dialogue(asked: Sequence[str], answered: Sequence[str]) -> tuple[str, list[str]] | None:
    """What the user and the assistant say in turn → the question and the steps; None when it is another dialogue.

    The authors' code always shows the model `+` for the steps before, so only that is taken.
    """
    if len(asked) != len(answered) or not asked or any(answer.strip() != _HISTORY for answer in answered):
        return None
    opening, separator, first = asked[0].partition(_SOLUTION)
    if not separator or not opening.startswith(_QUESTION):
        return None
    return opening.removeprefix(_QUESTION), [first, *asked[1:]]
