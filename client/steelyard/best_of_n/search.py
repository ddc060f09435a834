"""What every search is to the one who runs it: pure policy, without I/O, the clock an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from steelyard.best_of_n.candidates import Candidate, Draw
from steelyard.best_of_n.choosing import Choice
from steelyard.blending import Normalize
from steelyard.errors import InvalidCall

Why = Literal[
    "all were drawn",
    "the threshold was reached",
    "the leader cannot be caught",
    "every kept solution has ended",
    "the step limit was reached",
    "no continuation could be scored",
    "the token budget was spent",
    "the time budget was spent",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search may use: `tokens` generated, `seconds`, generations under way at a time.

    Tokens are counted when a candidate has settled, so what is then under way may come on top.
    """

    in_flight: int
    tokens: int | None = None
    seconds: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise InvalidCall(f"concurrency: {self.in_flight} is less than 1")
        for name, amount in (("max_total_tokens", self.tokens), ("max_seconds", self.seconds)):
            if amount is not None and not amount > 0:
                raise InvalidCall(f"{name}: {amount} is not more than 0")

    def seed_of(self, number: int) -> int | None:
        """Of the search's draw with this number."""
        return None if self.seed is None else self.seed + number


@dataclass(frozen=True, slots=True)
class Reward:
    """How scores are to be read: a blend's weights and normalisation, or one model that scores steps or answers."""

    kind: Literal["steps", "outcome", "blend"]
    shares: Mapping[str, float] | None = None
    normalize: Normalize = "none"
    bounded: bool = False


class Search(Protocol):
    """Told what happens, it says what to draw next, when to stop, and what to take."""

    @property
    def stopped(self) -> Why | None:
        """Why nothing more is to be drawn; None while it goes on."""
        ...

    def due(self) -> list[Draw]:
        """What to begin now; each is returned once."""
        ...

    def generated(self, number: int) -> None:
        """This draw has its text, which is yet to be scored."""
        ...

    def settle(self, candidate: Candidate) -> None:
        """This draw is done, with a score or without."""
        ...

    def pass_time(self, now_s: float) -> None:
        """So many seconds have passed since the search began."""
        ...

    def is_finished(self, text: str, ended: bool | None) -> bool:
        """Whether such a text is a whole solution."""
        ...

    def choose(self) -> Choice | None:
        """What is taken of all that counts; None where nothing has a score."""
        ...

    def counted(self) -> Sequence[Candidate]:
        """The candidates that took part, each with its score among them."""
        ...
