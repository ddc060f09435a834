"""The examples of the adapters, each run as a reader would; swift_plugin.py needs ms-swift, and runs with its drive."""

import ast
import os
import subprocess
import sys

import pytest

from tests.service.running import ROOT

RUN = ("easyr1_reward", "nemo_gym_verify", "openrlhf_reward", "slime_reward", "verl_reward")


@pytest.mark.parametrize("name", RUN)
def test_an_example_prints_rewards(url: str, name: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "client"), "STEELYARD_URL": url},
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "0." in ended.stdout


def test_the_example_of_a_plugin_parses() -> None:
    ast.parse((ROOT / "examples" / "swift_plugin.py").read_text())
