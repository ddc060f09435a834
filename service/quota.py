"""How many estimated tokens a caller may send in a minute: a bucket each, the clock is an argument."""

from typing import Protocol

MINUTE_S = 60.0
# A float of seconds is no more exact than this after a year.
_NOTHING_S = 1e-6
_FEW = 16


class Quota(Protocol):
    """What counts callers' tokens. A store that gateways share would do each verb in one atomic script."""

    def take(self, caller: str, tokens: int, now: float) -> float:
        """0.0 when they were taken; else nothing was, and it is the seconds until they can be."""
        ...

    def give_back(self, caller: str, tokens: int, now: float) -> None:
        """Nothing was done for them after all."""
        ...


class TokenBuckets:
    """This process's own: a bucket holds a minute's worth and fills at that rate.

    A group of more than a minute's worth is let through when the bucket is full, and leaves it in debt. All that is
    kept of a bucket is when it will be full (the generic cell rate algorithm), and of one that is full nothing.
    """

    def __init__(self, tokens_per_minute: int) -> None:
        self._token_s = MINUTE_S / tokens_per_minute
        self._full_at: dict[str, float] = {}
        self._most = _FEW

    def __len__(self) -> int:
        """How many callers something is kept of."""
        return len(self._full_at)

    def take(self, caller: str, tokens: int, now: float) -> float:
        self._forget_full(now)
        full_at = max(now, self._full_at.get(caller, now))
        wait_s = full_at - now - max(0.0, MINUTE_S - tokens * self._token_s)
        if wait_s > _NOTHING_S:
            return wait_s
        self._full_at[caller] = full_at + tokens * self._token_s
        return 0.0

    def give_back(self, caller: str, tokens: int, now: float) -> None:
        if caller in self._full_at:
            self._full_at[caller] -= tokens * self._token_s

    def _forget_full(self, now: float) -> None:
        """Looks at all of them, so only when there are twice as many as were in use the last time."""
        if len(self._full_at) >= self._most:
            self._full_at = {caller: full_at for caller, full_at in self._full_at.items() if full_at > now}
            self._most = max(_FEW, 2 * len(self._full_at))


class NoQuota:
    """Lets everything through."""

    def take(self, caller: str, tokens: int, now: float) -> float:
        return 0.0

    def give_back(self, caller: str, tokens: int, now: float) -> None:
        pass
