"""The client's wheel alone in a fresh environment: its size, its dependencies, its import, and a call.

`python -m benchmarks.client_wheel [--runs 7]`: builds the wheel, installs it and what it needs from the package index
into a new virtual environment, times the imports in processes of their own beside a bare interpreter's, and scores with
it against a real server. Exit status 1 over a limit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tests.service.running import running

ROOT = Path(__file__).parents[1]
_UV = ROOT / "requirements" / "uv.py"
_MOST_IMPORT_MS, _MOST_BYTES, _MOST_DEPENDENCIES = 300, 200_000, 6
_IMPORTS = ("import steelyard", "from steelyard import Client, AsyncClient", "import steelyard.schema")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        wheel = _build(Path(folder))
        interpreter = _install(wheel, Path(folder) / "environment")
        size, dependencies = wheel.stat().st_size, _dependencies(wheel)
        print(f"wheel: {size:,} bytes, {len(dependencies)} direct dependencies: {', '.join(dependencies)}")
        medians = {code: _import_ms(interpreter, code, runs) for code in _IMPORTS}
        for code, median in medians.items():
            print(f"{code}: {median:.0f} ms (median of {runs}, less a bare interpreter's start)")
        print(_score(interpreter))
    slow = medians["import steelyard"] > _MOST_IMPORT_MS
    return int(slow or size > _MOST_BYTES or len(dependencies) > _MOST_DEPENDENCIES)


def _build(folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _install(wheel: Path, environment: Path) -> Path:
    uv = [sys.executable, str(_UV)]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    interpreter = environment / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(interpreter), str(wheel)], check=True)
    return interpreter


def _dependencies(wheel: Path) -> list[str]:
    """What the wheel itself asks for, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    wanted = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    return [requirement for requirement in wanted if "extra ==" not in requirement]


def _import_ms(interpreter: Path, code: str, runs: int) -> float:
    """Interleaved with a bare interpreter, so that what else the machine does falls on both."""
    _run(interpreter, code)
    return statistics.median(_run(interpreter, code) - _run(interpreter, "pass") for _ in range(runs))


def _run(interpreter: Path, code: str) -> float:
    started = time.perf_counter()
    subprocess.run([interpreter, "-I", "-c", code], check=True, cwd=tempfile.gettempdir())
    return (time.perf_counter() - started) * 1000


def _score(interpreter: Path) -> str:
    """What the installed command prints for a question to a running server."""
    call = [str(interpreter.parent / "steelyard"), "score", "--image", str(ROOT / "examples" / "circle.png")]
    call += ["--question", "Which shape is red?", "--candidate", "The circle is red."]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with running() as server:
        environment = inherited | {"STEELYARD_URL": server.url}
        return subprocess.run(call, check=True, capture_output=True, text=True, env=environment).stdout


if __name__ == "__main__":
    sys.exit(main())
