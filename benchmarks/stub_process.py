"""`benchmarks.stub_server` as a process of its own, for as long as a benchmark needs it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stub_server(checkpoint: str, *options: str) -> Iterator[int]:
    """Yields its port, once it is ready; the options are the server's own."""
    command = [sys.executable, "-m", "benchmarks.stub_server", checkpoint, "benchmarks.stub_engine", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
