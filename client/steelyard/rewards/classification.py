"""Whether the class that was named is the true one. 0.0 or 1.0; reads response and solution."""

from steelyard.rewards.failures import UnusableTruth
from steelyard.rewards.maths import equal_anywhere
from steelyard.rewards.tags import Mode, first_answer, only_answer, solution_content


def classification_reward(response: str, truth: str, mode: Mode = "strict", *, maths_first: bool = True) -> float:
    """Strict: the texts are equal but for case, blanks and `_`. Upstream: equal mathematics, or one in the other.

    Strict raises UnusableTruth for a solution that names nothing, or whose tags are no single pair.
    """
    if mode == "upstream":
        if maths_first and equal_anywhere(response, truth):
            return 1.0
        expected, found = _normal(_upstream_content(truth)), _normal(_upstream_content(response))
        return 1.0 if expected in found or found in expected else 0.0
    solution = solution_content(truth)
    if solution is None or not (expected := _normal(solution)):
        raise UnusableTruth("the solution names no class, or its answer tags are no single pair")
    answer = only_answer(response)
    return 1.0 if answer is not None and _normal(answer) == expected else 0.0


def _upstream_content(text: str) -> str:
    content = first_answer(text, across_lines=False)
    return (text if content is None else content).strip()


def _normal(text: str) -> str:
    return text.replace(" ", "").replace("_", "").lower()
