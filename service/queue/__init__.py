"""The queue between gateways and engines: three verbs, `submit`, `take` and `deliver`.

A gateway submits a job and awaits its deliveries; an engine takes jobs, fetches the pictures it has not seen,
and delivers outcomes. Scoring is a pure function of the job, so delivering twice is harmless: the first counts.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.engine_counts import EngineCounts
from service.job import Delivery, EngineModel, Job
from service.queue.frames import EngineModelSource


class QueueUnavailable(Exception):
    """No engine takes jobs: still loading, failing to start, or the server is stopping."""


class QueueFull(QueueUnavailable):
    """Too much waits already; nothing was accepted. `retry_after_s` is when there may be room."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineStartError(Exception):
    """The engine cannot serve the models; the message is one line for the operator."""


class EngineDied(EngineStartError):
    """It ended while it was loading and did not say why: another try may fare better."""


class Superseded(Exception):
    """Other weights are to be served: what is left of the job was encoded for those before."""


class JobQueue(Protocol):
    """Where jobs go in."""

    def submit(self, job: Job, blobs: Mapping[str, bytes]) -> AsyncGenerator[Delivery, None]:
        """Hand over a job with the bytes of its pictures by digest; yields until each candidate has an outcome.

        Closing the iterator early withdraws the job. Raises QueueUnavailable when nothing was accepted or the server
        stops, and Superseded when a reload overtakes the job.
        """
        ...

    def models(self) -> Sequence[EngineModel]:
        """The models that engines have loaded, or had when they went to sleep; empty until the first is ready."""
        ...


class Queue(JobQueue, Protocol):
    """A gateway's end."""

    # What the engine said last of its caches; a new engine starts from nothing.
    counts: EngineCounts | None
    # Engines that were started again after a death.
    restarts: int
    # What an engine is doing before it is ready, for people.
    progress: str

    async def start(self) -> None:
        """Returns when the models are loaded. Raises EngineStartError."""
        ...

    async def close(self) -> None:
        """Stop; jobs that still wait end in QueueUnavailable."""
        ...

    async def sleep(self) -> None:
        """Returns when the engine has finished its forward and holds no memory. Jobs are accepted, and wait."""
        ...

    async def wake(self) -> None:
        """Returns when the models are loaded again. Raises EngineStartError, and sleeps on."""
        ...

    async def reload(self, models: Sequence[EngineModelSource]) -> None:
        """Serve these instead: at once, or from the next wake on.

        Jobs that were begun are finished by the weights before, the others are Superseded. Raises EngineStartError
        when they cannot be loaded, and serves those before again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Intake:
    """What arrived since the last `take`: new jobs, and the ids of jobs whose caller has gone."""

    jobs: tuple[Job, ...]
    withdrawn: frozenset[str]


class Source(Protocol):
    """An engine's end."""

    def take(self, *, wait: bool) -> Intake | None:
        """What has arrived; with `wait`, blocks until something has. None when the engine is to stop."""
        ...

    def blob(self, digest: str) -> bytes | None:
        """The bytes of a picture, or None when nobody has them any more."""
        ...

    def begin(self, jobs: Sequence[str]) -> None:
        """Say which jobs are about to be in hand, so that a death of this process is laid at their door."""
        ...

    def deliver(self, delivery: Delivery) -> None: ...

    def count(self, counts: EngineCounts) -> None:
        """Say what the caches have done so far."""
        ...
