"""`python -m loadtest.reaper`: kills the process groups that it was told of when its stdin ends.

A run that is killed itself, even by kill -9, leaves no server behind: its end of the pipe closes with it.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress


class Reaper:
    """The end of that pipe; close it, or die."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.reaper"], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def watch(self, group: int) -> None:
        self._say(f"+{group}")

    def forget(self, group: int) -> None:
        self._say(f"-{group}")

    def close(self) -> None:
        """Everything that is still watched is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)


def kill_group(group: int) -> None:
    """Every process of the group, stopped ones too."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        change, group = line[0], int(line[1:])
        (groups.add if change == "+" else groups.discard)(group)
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    main()
