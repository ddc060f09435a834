"""A checkpoint behind the real server, on a free port for as long as it is evaluated: there is one way to score."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from evaluation.errors import EvaluationError

_ROOT = Path(__file__).parents[1]
_READY = re.compile(r"is ready: (\S+)/docs")


@contextmanager
def serving(checkpoints: Sequence[Path], options: Sequence[str]) -> Iterator[str]:
    """The address of a server of these checkpoints. Raises EvaluationError with its last words if it does not start."""
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", suffix=".log") as log:
        process = _launch(checkpoints, options, log)
        try:
            yield _await_ready(process, Path(log.name))
        finally:
            _stop(process)


def name_checkpoints(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Served name → folder: the folder's own name, numbered where two are alike."""
    named: dict[str, Path] = {}
    for folder in checkpoints:
        name = re.sub(r"[^\w.-]", "_", folder.resolve().name) or "model"
        named[name if name not in named else f"{name}_{len(named)}"] = folder
    return named


def _launch(checkpoints: Sequence[Path], options: Sequence[str], log: IO[str]) -> subprocess.Popen[str]:
    models = [f"--model={name}={_source(folder)}" for name, folder in name_checkpoints(checkpoints).items()]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "evaluation.attached", "--port=0", *models, *options],
        cwd=_ROOT,
        env=inherited | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'client'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        # Ctrl-C is ours alone: the server is stopped when the run has stopped.
        start_new_session=True,
    )


def _source(checkpoint: Path) -> str:
    """As the server is told, from whose folder a relative path would mean another one. Raises EvaluationError."""
    if checkpoint.is_dir():
        return str(checkpoint.resolve())
    if "@" not in checkpoint.name:
        raise EvaluationError(f"--checkpoint {checkpoint}: neither a folder nor of the form ORG/REPO@REVISION")
    return str(checkpoint)


def _await_ready(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := _READY.search(line):
            return found[1]
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise EvaluationError(f"the checkpoint's server did not start: {said[-1] if said else 'it said nothing'}")


def _stop(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()
