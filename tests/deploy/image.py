"""The image's files and variables, laid out in a folder instead of a container."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.files import ROOT

TEXT = (ROOT / "Dockerfile").read_text("utf-8")


def lay_out(dockerfile: str, app: Path) -> Path:
    """What the final stage copies from the checkout, less what .dockerignore keeps back."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    final = re.split(r"^FROM .*$", dockerfile, flags=re.MULTILINE)[-1]
    for source, target in re.findall(r"^COPY (\w+) (\S+)$", final, re.MULTILINE):
        assert source not in ignored, f"{source} is copied and ignored"
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, app / target)
    return app


def run(app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = variables(app)
    return subprocess.run(
        [sys.executable, *arguments], cwd=app, env=environment, capture_output=True, text=True, check=False
    )


def variables(app: Path) -> dict[str, str]:
    """What a process there finds in its environment: the machine's, and the image's path of packages."""
    (path,) = re.findall(r"PYTHONPATH=(\S+)", TEXT)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STEELYARD_", "PYTHON"))}
    return inherited | {"PYTHONPATH": path.replace("/app", str(app)), "PYTHONDONTWRITEBYTECODE": "1"}
