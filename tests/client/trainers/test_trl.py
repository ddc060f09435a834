"""TRL's own trainers train on a real server's rewards, and leave out what has none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.running import ROOT, running

STEPS = int(os.environ.get("TRAINER_STEPS", "4"))
COMPLETIONS = 8 * STEPS
MODEL = f"visualprm={ROOT / 'demo' / 'visualprm'}"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What three runs against one server printed; it does not survive the last."""
    folder = tmp_path_factory.mktemp("trl")
    with running("--model", MODEL) as server:
        command = [sys.executable, "-m", "tests.client.trainers.trl_run"]
        ended = subprocess.run(
            [*command, server.url, str(server.process.pid), str(folder), str(STEPS)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            check=False,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        yield json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_the_rewards_of_a_run_are_the_scores_of_each_completion_by_itself(told: dict[str, Any], kind: str) -> None:
    run, direct = told[kind], told[f"{kind} direct"]
    assert len(run["rewards"]) == COMPLETIONS
    assert run["rewards"] == pytest.approx(direct, abs=1e-5)
    assert len(set(run["rewards"])) > COMPLETIONS // 4


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_the_trainer_keeps_and_logs_those_rewards(told: dict[str, Any], kind: str) -> None:
    run = told[kind]
    kept = run["kept_by_trl"]
    assert kept == pytest.approx(run["rewards"][-len(kept) :], abs=1e-6)
    means = [sum(run["rewards"][start : start + 8]) / 8 for start in range(0, COMPLETIONS, 8)]
    assert run["reward"] == pytest.approx(means, abs=1e-6)
    assert run["steelyard/unscored"] == [0.0] * STEPS
    assert max(run["grad_norm"]) > 0


def test_a_server_killed_in_mid_run_gives_none_which_moves_nothing(told: dict[str, Any]) -> None:
    run, half = told["killed"], STEPS // 2
    assert None not in run["rewards"][: 8 * half]
    assert run["rewards"][8 * half :] == [None] * (COMPLETIONS - 8 * half)
    assert run["steelyard/unscored"] == [0.0] * half + [1.0] * (STEPS - half)
    # TRL's log has no NaN.
    assert run["reward"][half:] == [None] * (STEPS - half)
    assert run["grad_norm"][half:] == [0.0] * (STEPS - half)
    assert run["reasons"][-1].startswith("connection_failed: ")


def test_the_example_prints_a_reward_for_each_step(told: dict[str, Any]) -> None:
    rows = [json.loads(line) for line in told["example"].splitlines() if line.startswith('{"step"')]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(0 < row["reward"] < 1 and row["steelyard/unscored"] == 0 for row in rows)
