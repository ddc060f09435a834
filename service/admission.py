"""Who is let in: permits by priority, by what a group costs, and by caller. Pure policy, the clock is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.cost import Cost
from service.drain import EXPECTED_TOKENS_PER_S, retry_after_s
from service.permits import Permits
from steelyard.schema import Priority

Kind = Literal["groups", "tokens", "tiles"]
Reason = Literal["groups", "tokens", "tiles", "key_share"]

# A second, until something has been measured.
_EXPECTED: Mapping[Kind, float] = {"groups": 20.0, "tokens": EXPECTED_TOKENS_PER_S, "tiles": 100.0}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be held at a time.

    `train` leaves `online_share` of it free, `batch` that share once more of what `train` may use. One caller may
    hold `key_share` of the whole.
    """

    groups: int
    tokens: int
    tiles: int
    online_share: float = 0.0
    key_share: float = 1.0

    def share(self, priority: Priority) -> float:
        return float((1 - self.online_share) ** {"online": 0, "train": 1, "batch": 2}[priority])


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """What a group holds from when it is let in until it has ended."""

    amounts: Mapping[Kind, int]
    priority: Priority
    caller: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a group was not let in, and in how many seconds it may be."""

    reason: Reason
    message: str
    retry_after_s: int


class Admission:
    """Gives a permit to each group that fits, and takes it back once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.permits: Mapping[Kind, Permits] = {
            "groups": Permits(limits.groups, _EXPECTED["groups"]),
            "tokens": Permits(limits.tokens, _EXPECTED["tokens"]),
            "tiles": Permits(limits.tiles, _EXPECTED["tiles"]),
        }
        self._given: set[Permit] = set()

    def take(self, cost: Cost, priority: Priority, caller: str, now: float) -> Permit | Refusal:
        """A group needs permits of every kind; the kind for which it would wait longest is named."""
        amounts: dict[Kind, int] = {"groups": 1, "tokens": cost.tokens, "tiles": cost.tiles}
        waits = self._waits(amounts, priority, caller, now)
        if waits:
            return _refusal(*max(waits))
        permit = Permit(amounts, priority, caller)
        for kind, amount in amounts.items():
            self.permits[kind].take(amount, priority, caller, now)
        self._given.add(permit)
        return permit

    def give_back(self, permit: Permit, now: float, *, finished: bool) -> None:
        """`finished` says whether the group was answered, which is what the rate of draining is measured by."""
        self._given.remove(permit)
        for kind, amount in permit.amounts.items():
            self.permits[kind].give_back(amount, permit.priority, permit.caller, now, finished=finished)

    def _waits(
        self, amounts: Mapping[Kind, int], priority: Priority, caller: str, now: float
    ) -> list[tuple[float, Reason]]:
        share, key_share = self._limits.share(priority), self._limits.key_share
        waits: list[tuple[float, Reason]] = []
        for kind, amount in amounts.items():
            permits = self.permits[kind]
            lacking: dict[Reason, int] = {
                kind: permits.lacking(amount, share),
                "key_share": permits.lacking_to(caller, amount, key_share),
            }
            waits += [(permits.seconds_for(count, now), reason) for reason, count in lacking.items() if count]
        return waits


def _refusal(wait_s: float, reason: Reason) -> Refusal:
    seconds = retry_after_s(wait_s)
    whose = "of this key" if reason == "key_share" else f"(counted in {reason})"
    message = f"too much is waiting {whose}; try again in about {seconds} s"
    return Refusal(reason, message, seconds)
