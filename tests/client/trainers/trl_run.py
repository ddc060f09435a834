"""TRL's trainers at work on a server's rewards, in a process where their warnings are no errors; prints what happened.

`python -m tests.client.trainers.trl_run URL PID FOLDER [STEPS]`: PID is the gateway's, killed in the last run's middle.
"""

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples import trl_grpo
from steelyard import Client, Retry
from steelyard.trainers.trl import AsyncRewardFunction, RewardFunction

Row = tuple[str, Any, str]
QUICK = Retry(max_retries=2, first_s=0.01)


class Noting(RewardFunction):
    """Keeps what TRL asked and was told, and may kill the server before its call of a number."""

    def __init__(self, url: str, victim: int | None = None, killing_call: int = 0) -> None:
        super().__init__(url, image_column="picture", retry=QUICK)
        self.rows: list[Row] = []
        self.rewards: list[float | None] = []
        self._victim, self._killing_call, self._calls = victim, killing_call, 0

    def __call__(self, **given: Any) -> list[float | None]:  # noqa: ANN401
        self._calls += 1
        if self._victim is not None and self._calls == self._killing_call:
            os.kill(self._victim, signal.SIGKILL)
        return self._noted(given, super().__call__(**given))

    def _noted(self, given: dict[str, Any], rewards: list[float | None]) -> list[float | None]:
        prompts = [prompt[0]["content"] for prompt in given["prompts"]]
        said = [completion[0]["content"] for completion in given["completions"]]
        self.rows += zip(prompts, given["picture"], said, strict=True)
        self.rewards += rewards
        return rewards


class AsyncNoting(Noting, AsyncRewardFunction):
    """The same, awaited."""

    async def __call__(self, **given: Any) -> list[float | None]:  # type: ignore[override]  # noqa: ANN401
        return self._noted(given, await AsyncRewardFunction.__call__(self, **given))


def run(reward: Noting, kind: str, steps: int, folder: Path) -> dict[str, object]:
    trainer = trl_grpo.train(reward, kind, steps, folder)
    history = [row for row in trainer.state.log_history if "reward" in row]
    logs: Any = trainer._logs
    return {
        "rewards": reward.rewards,
        "kept_by_trl": list(logs["rewards"]["steelyard"]),
        "reasons": list(logs["extra"]["steelyard_status"]),
        **{name: [row[name] for row in history] for name in ("reward", "steelyard/unscored", "grad_norm")},
    }


def direct(url: str, rows: Sequence[Row]) -> list[float | None]:
    """Each by itself, by a call of its own."""
    with Client(url) as client:
        return [
            client.score_steps(question, [picture], [text], control_tokens="literal").results[0].score
            for question, picture, text in rows
        ]


def example(url: str) -> str:
    """What the example prints, run as its reader would."""
    os.environ["STEELYARD_URL"] = url
    sys.argv = ["trl_grpo.py", "--trainer", "rloo", "--steps", "2"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        trl_grpo.main()
    return printed.getvalue()


def main() -> None:
    url, victim, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 4
    told: dict[str, object] = {}
    for name, reward, kind in (("grpo", Noting(url), "grpo"), ("rloo", AsyncNoting(url), "rloo")):
        told[name] = run(reward, kind, steps, folder)
        told[f"{name} direct"] = direct(url, reward.rows)
    told["example"] = example(url)
    told["killed"] = run(Noting(url, victim, steps // 2 + 1), "grpo", steps, folder)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
