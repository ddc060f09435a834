"""How fast waiting work is done, a decaying average over the time in which there was some; and when to come back."""

import math

# Seconds of work by which what was measured before counts for 1/e.
_MEMORY_S = 60.0
# For so many seconds of work the rate expected at the start speaks as loud as what is measured.
_EXPECTED_S = 10.0
# Tokens a second until something has been measured: what one GPU does with the released models, about.
EXPECTED_TOKENS_PER_S = 20_000.0
LONGEST_RETRY_S = 60


class DrainRate:
    """Units a second; the caller says what time has passed, and whether anything waited in it."""

    def __init__(self, expected_per_s: float) -> None:
        self._done = expected_per_s * _EXPECTED_S
        self._busy_s = _EXPECTED_S

    @property
    def per_s(self) -> float:
        return self._done / self._busy_s

    def pass_time(self, seconds: float) -> None:
        """So long something waited. Idle time is not told: it says nothing of how fast work would be done."""
        kept = math.exp(-seconds / _MEMORY_S)
        self._done *= kept
        self._busy_s = self._busy_s * kept + _MEMORY_S * (1 - kept)

    def finish(self, amount: float) -> None:
        self._done += amount

    def seconds_for(self, amount: float) -> float:
        """Until so much is done; infinite once nothing has been done for hours."""
        return amount / self.per_s if self.per_s else math.inf


def retry_after_s(wait_s: float) -> int:
    """What a caller is told who would have to wait so long: whole seconds, 1 to 60."""
    return math.ceil(min(max(wait_s, 1), LONGEST_RETRY_S))
