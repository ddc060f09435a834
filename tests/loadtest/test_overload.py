"""Each promise under overload is judged, and a run against a real server that is asked for too much."""

import json
import math
import subprocess
import sys

import pytest

from loadtest.memory import Growth
from loadtest.overload import Course, Limits, judge
from loadtest.recovery import Recovery
from loadtest.tally import Tally
from tests.service.running import ROOT


def tally(online_s: float = 0.1, refused: int = 0) -> Tally:
    """A hundred online groups, some of them refused; a thousand others, all refused."""
    found = Tally()
    online, train = found.of("online"), found.of("train")
    online.planned, train.planned = 100, 1000
    online.statuses.update({200: 100 - refused, 429: refused})
    online.retry_after["1"] = refused
    train.statuses[429] = train.retry_after["1"] = 1000
    for _ in range(100 - refused):
        online.accepted.record(online_s)
    return found


def course(
    loaded: Tally | None = None,
    slope: float = 0.0,
    recovery: Recovery = Recovery(0.2, 0.4),  # noqa: B008
) -> Course:
    return Course(tally(), loaded or tally(), {"gateway": slope}, {"gateway": (80.0, 80.0)}, recovery)


def broken(found: Course) -> list[str]:
    return [check.says for check in judge(found, Limits()) if not check.holds]


def test_a_server_that_keeps_its_promises_passes() -> None:
    assert broken(course(tally(online_s=0.19, refused=1), slope=0.9, recovery=Recovery(0.0, 5.0))) == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (course(tally(online_s=0.21)), "online p99"),
        (course(tally(refused=2)), "online groups were not scored"),
        (course(tally(refused=100)), "online p99"),
        (course(slope=1.1), "gateway"),
        (course(recovery=Recovery(0.0, 5.2)), "normal again"),
        (course(recovery=Recovery(0.0, math.inf)), "normal again"),
    ],
)
def test_a_broken_promise_is_named(found: Course, says: str) -> None:
    assert any(says in line for line in broken(found))


@pytest.mark.parametrize("status", [500, 503, 504])
def test_any_other_status_breaks_the_run(status: int) -> None:
    loaded = tally()
    loaded.of("train").planned += 1
    loaded.of("train").statuses[status] += 1
    assert broken(course(loaded)) == ["1 requests got neither 200 nor 429 with Retry-After"]


def test_a_refusal_that_does_not_say_when_breaks_the_run() -> None:
    loaded = tally()
    loaded.of("train").retry_after["1"] -= 1
    assert broken(course(loaded)) == ["1 requests got neither 200 nor 429 with Retry-After"]


def test_a_request_without_an_answer_breaks_the_run() -> None:
    loaded = tally()
    loaded.of("train").planned += 1
    loaded.of("train").unanswered += 1
    assert broken(course(loaded)) == ["1 requests got neither 200 nor 429 with Retry-After"]


def test_growth_is_the_slope_and_not_a_step_or_an_outlier() -> None:
    steady = Growth("p", [(second, 80 + second / 30) for second in range(60)])
    assert steady.slope() == pytest.approx(2.0)
    step = Growth("p", [(second, 80.0 if second < 20 else 90.0) for second in range(60)])
    assert step.slope(after_s=20) == 0
    outlier = Growth("p", [(second, 500.0 if second == 30 else 80.0) for second in range(60)])
    assert outlier.slope() == 0


@pytest.mark.slow
def test_a_real_server_answers_a_flood_with_200_or_429() -> None:
    options = ["--seconds=6", "--cost-ms=20", "--server-option=--max-waiting=50"]
    command = [sys.executable, "-m", "loadtest.overload", *options]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    found = json.loads(done.stdout)
    train = found["loaded"]["series"]["train"]
    assert train["planned"] > 2_000, done.stderr
    assert train["statuses"].keys() == {"200", "429"}
    assert train["statuses"]["429"] > 5 * train["statuses"]["200"]
    assert train["without_retry_after"] == train["unanswered"] == 0
    assert found["recovery_s"]["all"] < 10
    held = [check["holds"] for check in found["checks"]]
    assert done.returncode == (not all(held))
