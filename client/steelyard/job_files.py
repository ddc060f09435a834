"""Jobs from files and into files, so that what was interrupted goes on where it was."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from steelyard.errors import InvalidCall
from steelyard.job_calls import JobPage

CHUNK_LINES, CHUNK_BYTES = 1000, 8 * 2**20


def read_chunks(name: str, start: int) -> Iterator[list[tuple[int, bytes]]]:
    """(number in the file, line) of every line that is not blank, from the `start`th of them on.

    Raises InvalidCall.
    """
    chunk: list[tuple[int, bytes]] = []
    size = index = 0
    with _opened(name) as file:
        for number, line in enumerate(file, 1):
            if not (line := line.strip()):
                continue
            index += 1
            if index <= start:
                continue
            if chunk and (len(chunk) == CHUNK_LINES or size + len(line) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append((number, line))
            size += len(line)
    if chunk:
        yield chunk


class Note:
    """What is remembered beside a file, in one small file of JSON that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, object]:
        """Empty when there is none. Raises InvalidCall."""
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise InvalidCall(f"{self.path}: cannot be read; remove it to start anew")
        return found

    def write(self, **fields: object) -> None:
        draft = self.path.with_name(self.path.name + ".new")
        draft.write_text(json.dumps(fields) + "\n")
        os.replace(draft, self.path)


class RowFile:
    """A file that gets each row of a job once: the cursor stands beside it, and an unfinished page is cut off."""

    def __init__(self, name: str, job: str) -> None:
        """Raises InvalidCall for a file that is not this job's."""
        path = Path(name)
        self._job = job
        self._note = Note(path.with_name(path.name + ".cursor"))
        noted = self._note.read()
        size, self.cursor = noted.get("size", 0), str(noted.get("cursor", "0"))
        exists = path.exists() and path.stat().st_size > 0
        if noted.get("job", job) != job or (exists and not noted):
            raise InvalidCall(f"--out {name}: it is there already, and not this job's")
        if not isinstance(size, int) or size > (path.stat().st_size if exists else 0):
            raise InvalidCall(f"--out {name}: it has lost rows; remove {self._note.path} to fetch them all again")
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(size)
        self._file.seek(size)

    def add(self, page: JobPage) -> None:
        """The rows reach the disk before the cursor does."""
        self._file.writelines(line + b"\n" for line in page.lines)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note.write(job=self._job, cursor=page.cursor, size=self._file.tell())
        self.cursor = page.cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()


class RowStream:
    """Rows on stdout, from the first one on."""

    cursor = "0"

    def add(self, page: JobPage) -> None:
        sys.stdout.buffer.writelines(line + b"\n" for line in page.lines)
        sys.stdout.buffer.flush()
        self.cursor = page.cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidCall(f"{name}: {error.strerror}") from None
    with file:
        yield file
