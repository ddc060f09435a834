"""Print, for uv, the folders of wheels that pip is configured with; with --torch, how to get torch's build.

uv reads neither pip's configuration files nor PIP_FIND_LINKS, so `make install` passes them on.
"""

import re
import subprocess
import sys
from pathlib import Path


def folders() -> list[str]:
    """The find-links of `pip config list`, from files and from the environment, without repeats."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    values = re.findall(r"^\S*\.find-links='(.*)'$", listing, re.MULTILINE)
    return list(dict.fromkeys(link for value in values for link in value.replace("\\n", " ").split()))


def main() -> None:
    links = folders()
    arguments = [part for link in links for part in ("--find-links", link)]
    if "--torch" in sys.argv:
        backend = sys.argv[sys.argv.index("--torch") + 1]
        # A folder with torch in it is the CPU build chosen by whoever set up this machine.
        if not (backend == "cpu" and any(has_torch(link) for link in links)):
            arguments += ["--torch-backend", backend]
    print(*arguments)


def has_torch(link: str) -> bool:
    return any(Path(link.removeprefix("file://")).glob("torch-*.whl"))


if __name__ == "__main__":
    main()
