"""`python -m service.worker`: score the jobs of a queue in Redis with the models given on the command line."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from models.checkpoint import CheckpointError
from service.memory import return_large_blocks
from service.queue import EngineStartError
from service.queue.redis_worker import OtherFleet
from service.settings import SettingsError, read_settings
from service.worker_loop import Worker

# Written with each beat: what `--check` looks at. A worker has no port that a probe could ask.
ALIVE_FILE = Path(tempfile.gettempdir()) / "steelyard-worker.alive"
_FRESH_S = 30.0


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return check()
    try:
        settings = read_settings(arguments, os.environ)
        if settings.queue == "memory":
            raise SettingsError("--queue (or STEELYARD_QUEUE): a worker takes its jobs from redis://HOST:PORT")
    except SettingsError as error:
        return _stop(str(error))
    return_large_blocks()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run_until_told(lambda: Worker(settings, ALIVE_FILE.touch)))
    except (CheckpointError, EngineStartError, OtherFleet, SettingsError) as error:
        return _stop(str(error))
    return 0


def check() -> int:
    """0 when a worker on this machine spoke to Redis a moment ago."""
    with contextlib.suppress(OSError):
        if time.time() - ALIVE_FILE.stat().st_mtime < _FRESH_S:
            return 0
    return _stop(f"no worker here has spoken to Redis in the last {_FRESH_S:.0f} s")


async def run_until_told(make: Callable[[], Worker]) -> None:
    """SIGTERM and Ctrl-C stop it. Raises what `Worker.run` raises."""
    worker = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


def _stop(reason: str) -> int:
    print(f"steelyard worker: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
