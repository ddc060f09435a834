"""An evaluation that does what the response says: waits, dies, takes memory, gives numbers that are none."""

import os
import signal
import time
from collections.abc import Mapping

from service.verify.frames import Served
from service.verify.worker import Evaluate, NoReward

PRELOADED: list[bool] = []


def preload() -> None:
    PRELOADED.append(True)


def evaluator(specification: bytes) -> Evaluate:
    return _evaluate


def _evaluate(response: str, truth: str | None, served: Served | None) -> tuple[float, Mapping[str, float]]:
    word, _, rest = response.partition(" ")
    match word:
        case "refuse":
            raise NoReward("refused", "the solution is unusable")
        case "raise":
            raise KeyError(rest)
        case "hang":
            # Holds the interpreter lock, as a match that backtracks would.
            return float((10**10**9) % 7), {}
        case "sleep":
            time.sleep(float(rest))
        case "memory":
            return float(len(bytearray(2**32))), {}
        case "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "die-once":
            if not os.path.exists(rest):
                with open(rest, "w", encoding="utf-8"):
                    os.kill(os.getpid(), signal.SIGKILL)
        case "nan":
            return float("nan"), {"part": float("nan")}
        case "preloaded":
            return float(len(PRELOADED)), {}
        case "pid":
            return float(os.getpid()), {}
    return float(len(response)), {"length": float(len(response)), **(served or {})}
