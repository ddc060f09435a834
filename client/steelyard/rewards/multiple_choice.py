"""Whether the letter that was chosen is the true one. 0.0 or 1.0; reads response and solution."""

from steelyard.rewards.classification import classification_reward
from steelyard.rewards.failures import UnusableTruth
from steelyard.rewards.tags import Mode, only_answer, solution_content

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def multiple_choice_reward(
    response: str, truth: str, mode: Mode = "strict", *, choices: str = LETTERS, maths_first: bool = True
) -> float:
    """Strict: the answer is one of the letters and nothing else but `( )` around or `.` or `:` after it, in any case.

    Upstream has no function for it: there it is classification's. Strict raises UnusableTruth for a solution that is
    no such letter.
    """
    if mode == "upstream":
        return classification_reward(response, truth, mode, maths_first=maths_first)
    solution = solution_content(truth)
    expected = None if solution is None else letter_of(solution, choices)
    if expected is None:
        raise UnusableTruth(f"the solution is not one of the letters {choices}")
    answer = only_answer(response)
    return 1.0 if answer is not None and letter_of(answer, choices) == expected else 0.0


def letter_of(text: str, choices: str = LETTERS) -> str | None:
    """The upper-case letter that the text is; None for anything else."""
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1]
    elif text[-1:] in (".", ":", ")"):
        text = text[:-1]
    letter = text.upper() if len(text) == 1 and text.isascii() else ""
    return letter if letter and letter in choices else None
