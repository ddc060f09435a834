"""Run uv as pip is configured: `python requirements/uv.py [--torch BACKEND] ARGUMENT …`.

uv reads neither pip's configuration files nor its variables, so its folders of wheels (find-links) and its certificate
are passed on. Where uv is missing or older than the pinned one, pip fetches that into `.uv`. Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
_OWN = ROOT / ".uv"


def main(arguments: list[str]) -> int:
    settings = pip_settings()
    folders = list(dict.fromkeys(settings.get("find-links", "").replace("\\n", " ").split()))
    if arguments[0] == "--torch":
        arguments = arguments[2:] + torch_arguments(arguments[1], folders)
    if arguments[0] == "pip":
        arguments += [part for folder in folders for part in ("--find-links", folder)]
    environment = dict(os.environ)
    for option, variable in (("cert", "SSL_CERT_FILE"), ("index-url", "UV_DEFAULT_INDEX")):
        if option in settings:
            environment.setdefault(variable, settings[option])
    return subprocess.run([find_uv(), *arguments], env=environment, check=False).returncode


def pip_settings() -> dict[str, str]:
    """Option → value of `pip config list`; a variable of the environment is listed last and wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(re.findall(r"^\S*\.([a-z-]+)='(.*)'$", listing, re.MULTILINE))


def torch_arguments(backend: str, folders: list[str]) -> list[str]:
    """A folder of wheels with torch in it is the CPU build that whoever set up this machine chose."""
    wheels = f"torch-*-cp{sys.version_info.major}{sys.version_info.minor}-*.whl"
    local = any(any(Path(folder.removeprefix("file://")).glob(wheels)) for folder in folders)
    return [] if backend == "cpu" and local else ["--torch-backend", backend]


def find_uv() -> str:
    """The uv on the path if it is new enough, or the pinned one, fetched once."""
    lock = ROOT / "requirements" / "uv.txt"
    found, own = shutil.which("uv"), _OWN / "bin" / "uv"
    if found is not None:
        says = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if version(says) >= version(lock.read_text()):
            return found
    if not own.exists():
        try:
            venv.create(_OWN, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("this Python cannot make environments with pip; on Debian, install the package python3-venv")
        pip = [str(_OWN / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(lock)]
        subprocess.run(pip, check=True)
    return str(own)


def version(text: str) -> tuple[int, ...]:
    """The first dotted number in a text."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found.group().split("."))) if found else ()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
