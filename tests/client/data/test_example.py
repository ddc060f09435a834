"""The example of filtering, as its reader runs it, against the trained demo model."""

import os
import subprocess
import sys

from tests.service.running import ROOT, running


def test_the_example_keeps_the_right_answer() -> None:
    with running("--model", f"visualprm={ROOT / 'demo' / 'visualprm'}") as server:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "client"), "STEELYARD_URL": server.url}
        command = [sys.executable, str(ROOT / "examples" / "filter_dataset.py")]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    scored, best, pair = ended.stdout.splitlines()
    assert scored == "3 of 3 scored"
    assert best.endswith("Answer: circle")
    assert pair.startswith("pair: Answer: circle over Answer: ")
