"""The image, as far as it can be seen without building one: its files are laid out and its programs started."""

import re
from pathlib import Path

import pytest

from tests.deploy.files import ROOT
from tests.deploy.image import TEXT, lay_out, run
from tests.deploy.promises import answers_get

# The gateway's, the engine's and the worker's processes.
PROGRAMS = ["service", "service.engine_process", "service.worker"]
_LIST_MODELS = "from service.settings import *; print(*read_settings([], {}).models.values())"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(TEXT, tmp_path_factory.mktemp("app"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_finds_all_that_it_imports(image: Path, program: str) -> None:
    module = f"{program}.__main__" if program == "service" else program
    done = run(image, "-c", f"import {module}")
    assert done.returncode == 0, done.stderr


def test_the_default_models_are_in_the_image(image: Path) -> None:
    models = run(image, "-c", _LIST_MODELS).stdout.split()
    assert models
    for model in models:
        assert Path(model).is_relative_to(image)
        assert (Path(model) / "config.json").exists()


@pytest.mark.parametrize("package", ["client", "kernels", "models", "service"])
def test_a_package_that_is_not_copied_is_missed(tmp_path: Path, package: str) -> None:
    app = lay_out(TEXT.replace(f"COPY {package} {package}\n", ""), tmp_path)
    program = "service.engine_process" if package == "kernels" else "service.__main__"
    assert "ModuleNotFoundError" in run(app, "-c", f"import {program}").stderr


def test_the_entry_point_is_the_gateway(image: Path) -> None:
    assert re.findall(r"^ENTRYPOINT (.*)$", TEXT, re.MULTILINE) == ['["python", "-m", "service"]']
    assert "--queue" in run(image, "-m", "service", "--help").stdout


def test_its_health_check_asks_a_route_on_a_port_that_it_has() -> None:
    (check,) = re.findall(r"^HEALTHCHECK .*$", TEXT, re.MULTILINE)
    ((port, path),) = re.findall(r"http://127\.0\.0\.1:(\d+)(/[a-z/]+)", check)
    assert answers_get(path)
    assert port in re.findall(r"^EXPOSE (.*)$", TEXT, re.MULTILINE)[0].split()


def test_it_runs_as_the_user_that_kubernetes_runs_it_as() -> None:
    (user,) = re.findall(r"^USER (.*)$", TEXT, re.MULTILINE)
    assert f"--uid {user} " in TEXT
    for name in ("gateway", "worker"):
        manifest = (ROOT / "deploy" / "kubernetes" / "base" / f"{name}.yaml").read_text("utf-8")
        assert f"runAsUser: {user}\n" in manifest
