"""Candidates from the command line and from a file of JSON lines."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from steelyard.arguments import Arguments
from steelyard.errors import InvalidCall

Candidate: TypeAlias = str | Sequence[str]
STEP_SEPARATOR = "\n\n"


def text_of(candidate: Candidate) -> str:
    """The candidate as one text, in which the server counts code points."""
    return candidate if isinstance(candidate, str) else STEP_SEPARATOR.join(candidate)


def read_candidates(given: Arguments) -> list[Candidate]:
    """Those of --candidate, then those of the file. Raises InvalidCall."""
    if given.candidates_file is None:
        return [*given.candidate]
    name = given.candidates_file
    lines = _read(name).splitlines()
    found = [_parse(line, f"{name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found and not given.candidate:
        raise InvalidCall(f"--candidates-file {name}: there is no candidate in it")
    return [*given.candidate, *found]


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InvalidCall(f"--candidates-file {name}: {error.strerror}") from None


def _parse(line: bytes, place: str) -> Candidate:
    try:
        candidate: object = json.loads(line)
    except (ValueError, RecursionError):
        candidate = None
    if isinstance(candidate, str):
        return candidate
    if isinstance(candidate, list) and candidate and all(isinstance(step, str) for step in candidate):
        return candidate
    raise InvalidCall(f"{place}: neither a JSON string nor a list of them")
