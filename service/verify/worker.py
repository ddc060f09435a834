"""A worker: evaluates turns until its gateway hangs up, and is killed by its own alarm when an item takes too long.

The alarm's action is the kernel's, death: no code that holds the interpreter, be it a power of powers or a match that
backtracks, can put it off.
"""

import logging
import math
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from service.verify.frames import (
    LENGTH_BYTES,
    Answer,
    Item,
    Result,
    Served,
    Turn,
    Verified,
    pack,
    result_of,
    unverified,
)
from service.verify.progress import Progress

log = logging.getLogger(__name__)

_SPECIFICATIONS_KEPT = 64
_STATM = Path("/proc/self/statm")

Evaluate = Callable[[str, str | None, Served | None], tuple[float, Mapping[str, float]]]


class NoReward(Exception):
    """There is no number for an item: the status says in a word why."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Evaluation(Protocol):
    """What a worker evaluates with: `service.verify.evaluation`, or a test's own module."""

    def preload(self) -> None:
        """Import what is slow to import and not always needed."""
        ...

    def evaluator(self, specification: bytes) -> Evaluate:
        """Total and parts of a response, its truth and what served models gave it. What it returns raises NoReward."""
        ...


class Worker:
    """Evaluates turns with at most `memory_bytes` more memory than it has at its start."""

    def __init__(self, evaluation: Evaluation, progress: Progress, memory_bytes: int) -> None:
        self._evaluator = lru_cache(_SPECIFICATIONS_KEPT)(evaluation.evaluator)
        self._progress = progress
        self._tired_at = _address_space() + memory_bytes // 2
        _limit(_address_space() + memory_bytes)

    def serve(self, connection: socket.socket) -> None:
        """Until the gateway hangs up."""
        turns = msgspec.msgpack.Decoder(Turn)
        with connection.makefile("rb") as stream:
            while (frame := _read(stream)) is not None:
                connection.sendall(pack(self._run(turns.decode(frame))))

    def _run(self, turn: Turn) -> Answer:
        results: list[Result] = []
        evaluate = self._evaluator(turn.specification)
        ends = time.monotonic() + turn.quantum_s
        try:
            for position, item in enumerate(turn.items):
                if position and (time.monotonic() > ends or self._progress.is_abandoned):
                    break
                self._progress.begin(position)
                signal.setitimer(signal.ITIMER_REAL, turn.limit_s)
                results.append(_evaluated(evaluate, item))
        except MemoryError:
            return Answer(results, exhausted=item.place, tired=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._progress.clear()
        return Answer(results, tired=_address_space() > self._tired_at)


def _evaluated(evaluate: Evaluate, item: Item) -> Result:
    """Raises MemoryError."""
    try:
        total, parts = evaluate(item.response, item.truth, item.served)
    except NoReward as failure:
        return unverified(item, failure.status, str(failure))
    except MemoryError:
        raise
    except Exception as error:
        log.exception("the evaluation of an item failed")
        return unverified(item, "failed", f"its evaluation failed: {type(error).__name__}")
    if not (math.isfinite(total) and all(map(math.isfinite, parts.values()))):
        odd = next((name for name, part in parts.items() if not math.isfinite(part)), "the total")
        return unverified(item, "failed", f"{odd}: a number that is not finite")
    return result_of(Verified(item.place, item.id, "ok", total, parts))


def _address_space() -> int:
    """Bytes."""
    return int(_STATM.read_bytes().split()[0]) * resource.getpagesize()


def _limit(address_space: int) -> None:
    """So many bytes, and no core dumps."""
    for what, most in ((resource.RLIMIT_AS, address_space), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _read(stream: BinaryIO) -> bytes | None:
    """None at the end, also when it comes inside a frame."""
    head = stream.read(LENGTH_BYTES)
    length = int.from_bytes(head, "big")
    body = stream.read(length)
    return body if len(head) == LENGTH_BYTES and len(body) == length else None
