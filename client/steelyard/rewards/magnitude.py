"""How large the numbers in mathematics may become: 9**9**9 must be refused before anyone computes it."""

import re
from collections.abc import Iterator
from math import inf, log10
from typing import Any

# Decimal digits of a number that is still computed exactly, and the terms of a sum or product.
MOST_DIGITS = 100_000.0
_MOST_TERMS = 10_000.0
_MOST_NODES = 5_000
# Of a sum of several symbols.
_MOST_POWER = 100.0
_MOST_EXPONENT_DIGITS = 15.0
# math-verify computes binomials while it reads them.
_LARGE_NUMBER = re.compile(r"[0-9]{5}")


def may_be_evaluated(text: str) -> bool:
    """Whether math-verify may read it: reading computes little, except what is refused here."""
    return "binom" not in text or _LARGE_NUMBER.search(text) is None


def is_small(expression: Any) -> bool:  # noqa: ANN401
    """Whether computing a SymPy expression stays within the bounds. A text always is."""
    if isinstance(expression, str):
        return True
    return all(index < _MOST_NODES and _is_small_node(node) for index, node in enumerate(_nodes(expression)))


def _nodes(expression: Any) -> Iterator[Any]:  # noqa: ANN401
    """Without recursion: the depth is the writer's."""
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(getattr(node, "args", ()))
        if not getattr(node, "args", ()) and hasattr(node, "flat"):
            waiting.extend(node.flat())


def _is_small_node(node: Any) -> bool:  # noqa: ANN401
    name = type(node).__name__
    if name == "Pow":
        return _is_small_power(*node.args)
    if name in ("factorial", "factorial2", "subfactorial", "binomial", "gamma", "RisingFactorial", "FallingFactorial"):
        return all(_largest(part, 0) <= log10(_MOST_TERMS) for part in node.args)
    if name in ("Sum", "Product"):
        return all(_largest(bound, 0) <= log10(_MOST_TERMS) for limits in node.args[1:] for bound in limits.args[1:])
    return True


def _is_small_power(base: Any, exponent: Any) -> bool:  # noqa: ANN401
    if not _is_numeric(exponent):
        return True
    if _is_numeric(base):
        return _digits_of_power(_largest(base, 0), _largest(exponent, 0)) <= MOST_DIGITS
    # A sum to a power is multiplied out; a symbol's power stays what it is.
    return _largest(exponent, 0) <= log10(_MOST_POWER if base.args else MOST_DIGITS)


def _is_numeric(expression: Any) -> bool:  # noqa: ANN401
    return not getattr(expression, "free_symbols", None)


def _largest(expression: Any, depth: int) -> float:  # noqa: ANN401
    """An upper bound of log10 of the absolute value of a number, never computed; 0 at least; ∞ when in doubt."""
    if depth > 50:
        return inf
    if not _is_numeric(expression):
        return 0.0
    if hasattr(expression, "flat"):
        return sum(_largest(entry, depth + 1) for entry in expression.flat())
    name = type(expression).__name__
    parts = [_largest(part, depth + 1) for part in expression.args]
    if getattr(expression, "is_Integer", False):
        return log10(max(1, abs(int(expression.p))))
    if getattr(expression, "is_Rational", False):
        return log10(max(abs(int(expression.p)), int(expression.q)))
    if getattr(expression, "is_Float", False):
        return max(0.0, float(expression._mpf_[2] + expression._mpf_[3]) * log10(2))
    if name in ("Add", "Mul"):
        return sum(parts, log10(len(parts) + 1))
    if name == "Pow":
        return _digits_of_power(*parts)
    if name in ("factorial", "factorial2", "gamma", "exp"):
        return _digits_of_power(parts[0], parts[0])
    if not expression.args:
        # π, e and their like.
        return 1.0
    return sum(parts) if name in ("Abs", "UnevaluatedExpr", "sin", "cos", "log") else inf


def _digits_of_power(base: float, exponent: float) -> float:
    """Of a power whose base and exponent have so many digits."""
    return base * 10**exponent if exponent < _MOST_EXPONENT_DIGITS else inf
