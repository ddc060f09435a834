"""The wall clock jumps by hours, the monotonic one does not, and the module does not notice how it was started."""

import itertools
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from loadtest.jumping_clock import JumpingClock
from tests.service.running import ROOT

HOUR_S = 3600


def jumps(seed: int, seconds: int = 60) -> list[float]:
    steady = iter(range(seconds))
    clock = JumpingClock(seed, wall=lambda: 0.0, steady=lambda: float(next(steady)))
    return [clock.time() for _ in range(seconds)]


def test_it_jumps_hours_forth_and_back() -> None:
    offsets = jumps(seed=1)
    assert min(offsets) < -6 * HOUR_S
    assert max(offsets) > 6 * HOUR_S
    steps = [abs(later - earlier) for earlier, later in itertools.pairwise(offsets)]
    assert sum(step > HOUR_S for step in steps) > len(steps) / 2


def test_the_seed_makes_the_jumps() -> None:
    assert jumps(seed=1) == jumps(seed=1) != jumps(seed=2)


def test_within_a_second_time_goes_on_as_ever() -> None:
    walls = iter([100.0, 100.25])
    clock = JumpingClock(3, wall=lambda: next(walls), steady=lambda: 7.5)
    assert -clock.time() + clock.time() == pytest.approx(0.25)


@pytest.mark.parametrize("seed", [["7"], []])
def test_a_module_runs_under_it_as_it_would_alone(seed: list[str]) -> None:
    command = ["-m", "loadtest.jumping_clock", *seed, "-m", "tests.loadtest.said_time", "--queue", "-m"]
    answer = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True)
    seen: dict[str, Any] = json.loads(answer.stdout)
    assert seen["arguments"] == ["--queue", "-m"]
    assert seen["monotonic"] == pytest.approx(time.monotonic(), abs=60)
    offsets = [seen[name] - time.time() for name in ("time", "imported")] + [seen["ns"] / 1e9 - time.time()]
    assert all(abs(offset) <= 12 * HOUR_S + 60 for offset in offsets)
    assert all(abs(offset) > 60 for offset in offsets)
