"""The wheel is the client and nothing else; the server's packages are never installed."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_client_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"steelyard"}
    assert "steelyard/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_is_light(wheel: Path) -> None:
    assert wheel.stat().st_size <= 200_000
    text = zipfile.ZipFile(wheel).read(f"steelyard-{metadata_version(wheel)}.dist-info/METADATA").decode()
    lines = [line for line in text.splitlines() if line.startswith("Requires-Dist")]
    requirements = [line for line in lines if "extra ==" not in line]
    assert len(requirements) <= 6
    assert not any("torch" in line for line in requirements)


def metadata_version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def test_no_other_distribution_is_imported_as_kernels() -> None:
    assert "kernels" not in metadata.packages_distributions()


def test_the_kernels_package_tells_transformers_that_it_is_not_the_other_one() -> None:
    import kernels

    assert kernels.__version__ == "0"


@pytest.mark.parametrize("module", ["steelyard.schema", "service.app", "service.__main__", "service.encoding"])
def test_the_client_and_the_gateway_start_without_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_locks_have_hashes_and_no_address() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock
        assert "--hash=sha256:" in text, lock
