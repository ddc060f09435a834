"""An answer's numbers as bits, so that two answers are the same or are not."""

import hashlib
import struct
from typing import TypeAlias

from steelyard.schema import ScoreStepsResponse, StepScores

# For each candidate a digest of its status and its floats' bits; None while it has no final answer.
Rows: TypeAlias = tuple[bytes | None, ...]

_NOT_FINAL = frozenset({"expired", "failed"})


class Misshapen(Exception):
    """An answer that has not just one row for each candidate, in order."""


def rows_of(answer: ScoreStepsResponse, candidates: int) -> Rows:
    """Raises Misshapen."""
    if [result.index for result in answer.results] != list(range(candidates)):
        raise Misshapen(f"rows {[result.index for result in answer.results]} for {candidates} candidates")
    return tuple(None if result.status in _NOT_FINAL else _digest(result) for result in answer.results)


def _digest(result: StepScores) -> bytes:
    floats = [
        *(() if result.score is None else (result.score,)),
        *(result.step_scores or ()),
        *(result.step_logits or ()),
    ]
    bits = struct.pack(f"<{len(floats)}d", *floats)
    return hashlib.blake2b(result.status.encode() + b"\0" + bits, digest_size=16).digest()
