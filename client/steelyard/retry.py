"""When a failed attempt is made again: full jitter, never sooner than the server asks."""

import email.utils
from dataclasses import dataclass
from datetime import UTC, datetime

from steelyard.errors import ConnectionFailed, ServiceError, SteelyardError

_STATUSES = frozenset({429, 503, 504})
# 2 ** 30 half seconds are past every cap, and 2 ** 10_000 is no float.
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and for how long; the defaults ride out a restart that takes about a minute.

    An attempt begins at most `within_s` after the call did, so that a Retry-After past it is given up at once.
    """

    max_retries: int = 8
    first_s: float = 0.5
    longest_s: float = 30.0
    within_s: float = 600.0

    def pause_s(self, failure: SteelyardError, attempt: int, elapsed_s: float, draw: float) -> float | None:
        """Seconds to wait after attempt 0, 1, … failed, or None to give up; `draw` is uniform in [0, 1)."""
        if attempt >= self.max_retries or not is_transient(failure):
            return None
        window_s = min(self.longest_s, self.first_s * 2 ** min(attempt, _MOST_DOUBLINGS))
        # The jitter comes on top: callers who were refused together must not return together.
        pause_s = (failure.retry_after_s or 0.0) + draw * window_s
        return pause_s if elapsed_s + pause_s <= self.within_s else None


def is_transient(failure: SteelyardError) -> bool:
    """Whether the same call may fare better in a while."""
    if isinstance(failure, ServiceError):
        return failure.status in _STATUSES
    return isinstance(failure, ConnectionFailed)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After header, which is a number or an HTTP date; None when it is neither."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date that ends in -0000 has no zone.
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
