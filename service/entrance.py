"""Where a group is let in or answered 429: quotas, then permits, both on this gateway's own clock."""

import math
import time

from service.admission import Admission, Limits, Permit, Refusal
from service.cost import Cost
from service.errors import Overloaded, QuotaExceeded
from service.metrics import Metrics
from service.quota import NoQuota, Quota, TokenBuckets
from service.settings import Settings
from steelyard.schema import Priority


class Entrance:
    """One a gateway; what it counts is in the metrics."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        limit = settings.key_tokens_per_minute
        self._quota: Quota = NoQuota() if limit is None else TokenBuckets(limit)
        self._metrics = metrics
        self._admission = Admission(
            Limits(
                groups=settings.max_waiting,
                tokens=settings.max_waiting_tokens,
                tiles=settings.max_waiting_tiles,
                online_share=settings.online_share,
                key_share=settings.key_share,
            )
        )
        self._show()

    @property
    def is_empty(self) -> bool:
        """Whether every group that was let in has ended."""
        return not self._admission.permits["groups"].held

    def enter(self, cost: Cost, priority: Priority, caller: str) -> Permit:
        """Leave with the permit once the group has ended. Raises QuotaExceeded and Overloaded."""
        now = time.monotonic()
        # First, as its wait is the longer one: a caller over its quota need not come back when there is room.
        wait_s = self._quota.take(caller, cost.tokens, now)
        if wait_s:
            self._metrics.refused.labels("quota").inc()
            retry_after_s = math.ceil(wait_s)
            raise QuotaExceeded(
                f"this key has sent its tokens of the minute; the group fits in {retry_after_s} s", retry_after_s
            )
        permit = self._admission.take(cost, priority, caller, now)
        if isinstance(permit, Refusal):
            self._quota.give_back(caller, cost.tokens, now)
            self._metrics.refused.labels(permit.reason).inc()
            refused = QuotaExceeded if permit.reason == "key_share" else Overloaded
            raise refused(permit.message, permit.retry_after_s)
        self._show()
        return permit

    def leave(self, permit: Permit, *, answered: bool, refused: bool) -> None:
        """Once a group. One that was `refused` after all is not counted against the caller's quota."""
        now = time.monotonic()
        self._admission.give_back(permit, now, finished=answered)
        if refused:
            self._quota.give_back(permit.caller, permit.amounts["tokens"], now)
        self._show()

    def _show(self) -> None:
        permits, metrics = self._admission.permits, self._metrics
        metrics.waiting.set(permits["groups"].held)
        for priority in ("online", "train", "batch"):
            metrics.waiting_tokens.labels(priority).set(permits["tokens"].by_priority[priority])
            metrics.waiting_tiles.labels(priority).set(permits["tiles"].by_priority[priority])
        for kind, held in permits.items():
            metrics.drained.labels(kind).set(held.per_s)
