"""The wheel by itself: built, unpacked where the checkout is not, and put to work."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.service.running import Running, shared

ROOT = Path(__file__).parents[2]
# As the script that an installer writes: by the entry point that the wheel names.
STEELYARD = (
    "import sys; from importlib.metadata import entry_points;"
    "(script,) = entry_points(group='console_scripts', name='steelyard'); sys.exit(script.load()())"
)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(installed: Path, code: str, *arguments: str, **more: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    command = [sys.executable, "-c", code, *arguments]
    paths = {"PYTHONPATH": str(installed), "COLUMNS": "80"}
    ended = subprocess.run(
        command, cwd=installed, env=environment | paths | more, capture_output=True, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_installed_command_scores_against_a_running_server(installed: Path, server: Running) -> None:
    picture = str(ROOT / "examples" / "circle.png")
    arguments = ("score", "--image", picture, "--question", "Which shape is red?", "--candidate", "A circle.\n\nYes.")
    table = run(installed, STEELYARD, *arguments, STEELYARD_URL=server.url)
    assert "★ 0  0." in table
    assert "Yes." in table


def test_filtering_needs_an_extra_only_for_what_it_brings(installed: Path) -> None:
    code = """
import sys, steelyard.data.filtering, steelyard.data.json_lines
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"pyarrow", "tqdm", "ray", "numpy"}))
sys.modules["pyarrow"] = None
from steelyard.data.sources import open_source
try:
    open_source(sys.argv[1])
except steelyard.SteelyardError as error:
    print(error)
"""
    assert run(installed, code, str(installed)) == ("\nParquet and Arrow need pyarrow: pip install 'steelyard[data]'\n")


def test_nothing_of_the_server_is_imported_with_the_client(installed: Path) -> None:
    code = """
import sys, steelyard
assert steelyard.__file__.startswith(sys.argv[1]), steelyard.__file__
assert not {"httpx2", "pydantic", "sqlite3"} & set(sys.modules)
from steelyard import AsyncClient, Client, errors, schema
import steelyard.cli, steelyard.command
print(*sorted({name.partition(".")[0] for name in sys.modules} & {
    "torch", "numpy", "PIL", "service", "models", "kernels", "fastapi", "msgspec", "prometheus_client",
    "pyarrow", "tqdm", "ray", "sqlite3"
}))
"""
    assert run(installed, code, str(installed)).strip() == ""
