"""Where the steps of a response end among the very tokens that the policy drew."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

Decode = Callable[[int], str]


def step_ends(spans: Sequence[tuple[int, int]], tokens: int, decode: Decode) -> list[int]:
    """The token that completes each step. `decode(n)` is the text of the first n tokens, of which there are `tokens`.

    Nothing is tokenised anew, which could cut the text at other places. A few decodes for each step. Raises ValueError
    when there is no token.
    """
    if tokens < 1:
        raise ValueError("a response without tokens has no place for a reward")
    lengths = range(1, tokens + 1)
    return [min(bisect_left(lengths, end, key=lambda n: len(decode(n))), tokens - 1) for _, end in spans]


class StepReward(float):
    """The score of a response, which knows what of it falls on which token: pairs of a token's place and its reward."""

    tokens: tuple[tuple[int, float], ...]

    def __new__(cls, score: float, tokens: Sequence[tuple[int, float]]) -> "StepReward":
        made = super().__new__(cls, score)
        made.tokens = tuple(tokens)
        return made

    def __reduce__(self) -> tuple[type["StepReward"], tuple[float, tuple[tuple[int, float], ...]]]:
        return type(self), (float(self), self.tokens)
