"""`python -m tests.trainers [--folder F] [NAME …]`: install each trainer, and drive its own reward code."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.service.running import running
from tests.trainers.environments import ROOT, TRAINERS, Trainer, install, python_of

MODELS = ("--model", f"visualprm={ROOT / 'demo' / 'visualprm'}", "--model", f"ixc={ROOT / 'demo' / 'ixc_reward'}")
PATIENCE_S = 900.0


def main() -> int:
    """1 when a drive failed; a trainer that cannot be installed here is named, and is no failure."""
    parser = argparse.ArgumentParser("python -m tests.trainers", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".trainers")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(trainer.name for trainer in TRAINERS))
    given = parser.parse_args()
    with running(*MODELS) as server:
        told = {
            trainer.name: _check(trainer, given.folder.absolute(), server.url)
            for trainer in TRAINERS
            if not given.names or trainer.name in given.names
        }
    for name, outcome in told.items():
        print(f"{name:10} {outcome}")
    return int("failed" in told.values())


def _check(trainer: Trainer, folder: Path, url: str) -> str:
    print(f"{trainer.name}: {', '.join((*trainer.alone, *trainer.packages))}", flush=True)
    missing = install(trainer, folder)
    if missing is not None:
        return f"not installed: {missing}"
    command = [str(python_of(trainer, folder)), "-m", f"tests.trainers.drives.{trainer.name}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    paths = f"{ROOT}{os.pathsep}{ROOT / 'client'}"
    more = {"STEELYARD_URL": url, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    ended = subprocess.run(command, cwd=ROOT, env=environment | more, check=False, timeout=PATIENCE_S)
    return "failed" if ended.returncode else "ok"


if __name__ == "__main__":
    sys.exit(main())
