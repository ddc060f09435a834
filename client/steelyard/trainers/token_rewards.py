"""Step scores on the policy's tokens: from spans of the response's text to positions in its ids."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

# [start, end) in code points.
Span: TypeAlias = tuple[int, int]


def last_tokens(spans: Sequence[Span], offsets: Sequence[Span]) -> list[int]:
    """The token on which each step ends: the last one that begins before the step's end.

    `offsets` are those of a tokenizer for the response's text, one a token, in order; empty ones are special tokens
    and carry no step. A step before the first token ends on it. Raises ValueError when no token carries text.
    """
    positions = [position for position, (start, end) in enumerate(offsets) if start < end]
    if not positions:
        raise ValueError("none of the tokens carries text")
    # A token may begin within another, as the bytes of one letter do: what counts is how far the text has come.
    starts = list(accumulate((offsets[position][0] for position in positions), max))
    return [positions[max(0, bisect_left(starts, end) - 1)] for _, end in spans]


def token_rewards(scores: Sequence[float], spans: Sequence[Span], offsets: Sequence[Span]) -> list[float]:
    """Each step's score on its last token; steps that end on the same one are added. (tokens,), 0 where no step ends.

    Raises ValueError when there is no span for each score, or no token for them.
    """
    rewards = [0.0] * len(offsets)
    if not scores and not spans:
        return rewards
    for score, token in zip(scores, last_tokens(spans, offsets), strict=True):
        rewards[token] += score
    return rewards
