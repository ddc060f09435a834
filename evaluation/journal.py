"""JSON lines on disk as they come, so that an interrupted run goes on where it stopped."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from evaluation.errors import EvaluationError

Line = TypeVar("Line", bound=BaseModel)


class Journal:
    """A file that one run at a time appends to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def append(self, line: str) -> None:
        """Kept from now on, whatever happens to this process. Raises EvaluationError."""
        content = line.encode() + b"\n"
        try:
            written = os.write(self._descriptor, content)
        except OSError as error:
            raise EvaluationError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        if written != len(content):
            raise EvaluationError(f"{self.path}: the disk is full")


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Made where there is none. Raises EvaluationError when another run is writing it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise EvaluationError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    try:
        _lock(path, descriptor)
        _cut_torn_line(path, descriptor)
        yield Journal(path, descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Of every whole line. Raises EvaluationError that names the file and line which is none of this kind."""
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError:
            raise EvaluationError(f"{path}:{number}: not a line of this version; move the file away") from None
    return found


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EvaluationError(f"{path}: another run is writing it") from None


def _cut_torn_line(path: Path, descriptor: int) -> None:
    """Drop what a killed run left of its last line."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
