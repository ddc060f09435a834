"""Whether two texts hold equal mathematics, by math-verify. 0.0 or 1.0; reads response and solution.

math-verify's own time limit is an alarm, which only a process's main thread can set: it is switched off, so that a text
earns the same in every thread. What may take long is bounded here in size; time is for whoever owns the process.
"""

import importlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

from steelyard.rewards.failures import ExtraMissing, TooComplex, UnusableTruth
from steelyard.rewards.magnitude import is_small, may_be_evaluated
from steelyard.rewards.tags import Mode, only_answer, solution_content

# Of the answer's content, or of the solution.
MOST_CHARACTERS = 2_000
_EXTRA = "mathematics needs math-verify: pip install 'steelyard[maths]'"
# ANTLR's tables and SymPy's caches are the process's.
_ONE_AT_A_TIME = Lock()


def maths_reward(response: str, truth: str, mode: Mode = "strict", most_characters: int = MOST_CHARACTERS) -> float:
    """Strict compares what the answer's tags hold, the solution as gold. Upstream is its maths step, see below.

    Strict raises UnusableTruth for a solution without mathematics, TooComplex for what is larger than the bounds.
    Both raise ExtraMissing.
    """
    if mode == "upstream":
        return 1.0 if equal_anywhere(response, truth) else 0.0
    solution = solution_content(truth)
    if solution is None:
        raise UnusableTruth("the solution's answer tags are no single pair")
    if len(solution) > most_characters or not may_be_evaluated(solution):
        raise UnusableTruth("the solution is too complex to compare with")
    gold = _parsed(solution)
    if not gold or not all(map(is_small, gold)):
        raise UnusableTruth("the solution holds no mathematics that can be compared with")
    answer = only_answer(response)
    if not answer:
        return 0.0
    if len(answer) > most_characters or not may_be_evaluated(answer):
        raise TooComplex(f"the answer is longer than {most_characters} characters or computes with too large numbers")
    target = _parsed(answer)
    if not all(map(is_small, target)):
        raise TooComplex("the answer computes with too large numbers")
    return 1.0 if _verified(gold, target) else 0.0


def equal_anywhere(response: str, truth: str) -> bool:
    """Upstream's first step: both whole texts parsed, and the response taken for gold.

    What is larger than the bounds counts as unequal, as upstream's own time limit makes it. Raises ExtraMissing.
    """
    if not (may_be_evaluated(response) and may_be_evaluated(truth)):
        return False
    first, second = _parsed(response), _kept(truth)
    return all(map(is_small, first)) and all(map(is_small, second)) and _verified(first, second)


def _parsed(text: str) -> Sequence[Any]:
    """Expressions and texts; empty where there is none."""
    library = _library()
    with _ONE_AT_A_TIME:
        parsed: Sequence[Any] = library.parse(text, parsing_timeout=None)
    return parsed


_kept = lru_cache(256)(_parsed)


def _verified(gold: Sequence[Any], target: Sequence[Any]) -> bool:
    library = _library()
    with _ONE_AT_A_TIME:
        return bool(library.verify(gold, target, timeout_seconds=None))


@lru_cache(1)
def _library() -> Any:  # noqa: ANN401
    try:
        library = importlib.import_module("math_verify")
    except ImportError:
        raise ExtraMissing(_EXTRA) from None
    # It warns, once and at length, of the time limit that is switched off here on purpose.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).addFilter(_is_no_timeout_warning)
    return library


def _is_no_timeout_warning(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Timeout is disabled")
