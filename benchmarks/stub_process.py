"""`benchmarks.stub_server` as a process of its own, for as long as a benchmark needs it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).parents[1]


@contextmanager
def stub_server(checkpoint: str, *options: str, engine: str = "benchmarks.stub_engine") -> Iterator[int]:
    """Yields its port, once it is ready; the options are the server's own."""
    command = [sys.executable, "-m", "benchmarks.stub_server", checkpoint, engine, *options]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
