"""Start a benchmark anew with the allocator's settings of the engine's process."""

import os
import sys

from service.allocator import tuned


def start_tuned(module: str) -> None:
    """Returns where the settings are in force; elsewhere the process becomes `python -m module` with them."""
    environment = tuned(os.environ)
    if environment != os.environ:
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)
