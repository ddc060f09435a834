"""What the tests of filtering share: the gateway over an engine whose scores tell candidates apart, and the command."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from steelyard.cli import main
from tests.service.running import DEMO, PATIENCE_S, ROOT, read_samples


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway."""

    url: str

    def groups(self) -> int:
        """How many it has been given."""
        samples = read_samples(httpx2.get(self.url + "/metrics", timeout=PATIENCE_S).text)
        return int(sum(value for name, value in samples.items() if name.startswith("steelyard_groups_total")))


@contextmanager
def digest_server() -> Iterator[Served]:
    """Equal candidates have equal scores, whatever else is in their batch."""
    command = [sys.executable, "-m", "benchmarks.stub_server", str(DEMO), "benchmarks.digest_engine"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


def start(url: str, *arguments: str | Path, python: str = sys.executable) -> "subprocess.Popen[str]":
    """`steelyard filter` in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    return subprocess.Popen(
        [python, "-m", "steelyard", "filter", *map(str, arguments), "--url", url],
        env=environment | {"PYTHONPATH": str(ROOT / "client")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def filtered(url: str, *arguments: str | Path) -> Ended:
    """The same in this process, which has imported everything."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(["filter", *map(str, arguments), "--url", url])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def write_lines(path: Path, rows: Sequence[Mapping[str, object] | str]) -> Path:
    """A text is written as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records(count: int, together: int = 4) -> list[dict[str, object]]:
    """Neighbours share a question; no two are alike."""
    return [
        {"id": index, "question": f"Question {index // together}?", "response": f"Part one.\n\nIt is {index}."}
        for index in range(count)
    ]
