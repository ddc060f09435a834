"""Connections to Redis: from a URL, and one line on which the commands of many coroutines travel together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import MasterDownError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as Silent
from redis.retry import Retry as BlockingRetry
from redis.sentinel import Sentinel as BlockingSentinel

from service.ending import end
from service.queue.redis_keys import script_texts

# Redis is away, is about to be another one, or has no memory left for now: the same command may be sent again, for
# every script can be repeated.
AWAY = (Gone, Silent, MasterDownError, ReadOnlyError, OutOfMemoryError, OSError)

_SOCKET_S = 5.0
_SENTINEL_PORT = 26379
_MOST_TOGETHER = 256


def connect(url: str) -> Redis:
    """A client that connects when it is first used; `decode_responses` is off.

    redis:// rediss:// unix:// as redis-py takes them, with user and password of an ACL; or
    redis+sentinel://[user:password@]HOST:PORT,HOST:PORT/SERVICE[/DB][?sentinel_password=…], rediss+sentinel:// over
    TLS. Raises ValueError for what is none of them. Redis Cluster is not supported.
    """
    options = _options() | {"retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)}
    if not urlsplit(url).scheme.endswith("+sentinel"):
        return Redis.from_url(url, **options)
    found: Redis = _sentinels(Sentinel, url, options)
    return found


async def disconnect(client: Redis) -> None:
    """Close its connections, those to the sentinels too."""
    await client.aclose()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def connect_blocking(url: str) -> BlockingRedis:
    """The same for a tool of the command line."""
    options = _options() | {"retry": BlockingRetry(ExponentialBackoff(cap=0.5, base=0.05), 2)}
    if not urlsplit(url).scheme.endswith("+sentinel"):
        return BlockingRedis.from_url(url, **options)
    found: BlockingRedis = _sentinels(BlockingSentinel, url, options)
    return found


def hide_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:…@{host}" if at else host, query="").geturl()


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": _SOCKET_S,
        "socket_connect_timeout": _SOCKET_S,
        "client_name": "steelyard",
        "protocol": 2,
    }


def _sentinels(kind: Callable[..., Any], url: str, options: dict[str, Any]) -> Any:  # noqa: ANN401
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("redis+sentinel://HOST:PORT,HOST:PORT/SERVICE names the sentinels and the service")
    name, _, password = user.partition(":")
    if user:
        options |= {"username": unquote(name) or None, "password": unquote(password)}
    if database:
        options["db"] = int(database)
    tls = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    own = parse_qs(parts.query).get("sentinel_password")
    sentinel_options = tls | ({"password": own[0]} if own else {}) | {"socket_timeout": _SOCKET_S}
    sentinels = [_host(each) for each in hosts.split(",")]
    return kind(sentinels, sentinel_kwargs=sentinel_options, **options, **tls).master_for(service)


def _host(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":") if ":" in given else (given, "", "")
    return host, int(port or _SENTINEL_PORT)


class Line:
    """What coroutines send while an answer is on its way goes together in the next round trip.

    Raises one of AWAY when Redis does not answer, whether or not it had heard.
    """

    def __init__(self, url: str) -> None:
        self.redis = connect(url)
        self._texts = script_texts()
        self._hashes: dict[str, str] = {}
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def call(self, *command: Any) -> Any:  # noqa: ANN401
        """One command's answer. Raises RedisError."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def script(self, name: str, *arguments: str | bytes | int) -> Any:  # noqa: ANN401
        """What a script of `lua/` answers. Raises RedisError."""
        for _ in range(2):
            if name not in self._hashes:
                digest = await self.call("SCRIPT LOAD", self._texts[name])
                self._hashes[name] = digest.decode() if isinstance(digest, bytes) else str(digest)
            try:
                return await self.call("EVALSHA", self._hashes[name], 0, *arguments)
            except NoScriptError:
                # Another server, or the same one started again.
                self._hashes.clear()
        raise RedisError(f"Redis forgets the script {name} at once")

    async def close(self) -> None:
        if self._sending is not None:
            await end([self._sending])
        await disconnect(self.redis)

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
            try:
                answers = await self._exchange([command for command, _ in batch])
            except asyncio.CancelledError:
                for _, future in (*batch, *self._waiting):
                    future.cancel()
                raise
            except (RedisError, OSError) as error:
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def _exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await cast(Awaitable[Any], self.redis.execute_command(*commands[0]))]  # type: ignore[no-untyped-call]
            except RedisError as error:
                return [error]
        async with self.redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))
