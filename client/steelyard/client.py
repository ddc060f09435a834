"""The two clients: each drives the same scripts, one for threads, the other for tasks."""

import asyncio
import contextlib
import functools
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, get_args

from steelyard.calls import Calls
from steelyard.errors import InvalidCall, SteelyardError
from steelyard.exchange import Alone, Answer, Reply, Script, Send, Wait, Work
from steelyard.lanes import Lanes, async_lanes, blocking_lanes
from steelyard.requests import check_timeout
from steelyard.retry import Retry
from steelyard.transport import find_server

MAX_CONCURRENCY = 64

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])
Lock = TypeVar("Lock", threading.Lock, asyncio.Lock)


class _Locks(Generic[Lock]):
    """A lock for each name, for as long as anyone holds it or waits for it."""

    def __init__(self, make: Callable[[], Lock]) -> None:
        self._make: Callable[[], Lock] = make
        self._locks: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    def named(self, name: str) -> Lock:
        with self._guard:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = self._make()
            return lock


def _blocking(
    call: Callable[Concatenate[Calls, Parameters], Script[Result]], *, permit: bool = True
) -> Callable[Concatenate["Client", Parameters], Result]:
    """The call as a method that returns its result; without a permit it passes those that wait for theirs."""

    @functools.wraps(call)
    def method(client: "Client", /, *args: Parameters.args, **options: Parameters.kwargs) -> Result:
        with client._permits if permit else contextlib.nullcontext():
            return client._run(call(client._calls, *args, **options))

    return _documented(method, call)


def _awaiting(
    call: Callable[Concatenate[Calls, Parameters], Script[Result]], *, permit: bool = True
) -> Callable[Concatenate["AsyncClient", Parameters], Coroutine[Any, Any, Result]]:
    """The call as a coroutine."""

    @functools.wraps(call)
    async def method(client: "AsyncClient", /, *args: Parameters.args, **options: Parameters.kwargs) -> Result:
        async with client._permits if permit else contextlib.nullcontext():
            return await client._run(call(client._calls, *args, **options))

    return _documented(method, call)


def _documented(method: Method, call: Callable[..., Script[Any]]) -> Method:
    """With what the caller gets as its result: the script is nobody's business."""
    signature = inspect.signature(call)
    result = get_args(signature.return_annotation)[-1]
    method.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    return method


class Client:
    """A server's client for threads, which may share it; close it, or use it in a `with`.

    `url` and `api_key` default to STEELYARD_URL and STEELYARD_API_KEY. At most `max_concurrency` calls are under way
    at a time, the others wait their turn. `timeout_s` bounds each attempt in place of its deadline and 30 s.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._server = find_server(url, api_key)
        self._calls = _calls(max_concurrency, retry, timeout_s)
        self._permits = threading.BoundedSemaphore(max_concurrency)
        self._locks: _Locks[threading.Lock] = _Locks(threading.Lock)
        self._lanes = Lanes(blocking_lanes(self._server))

    score_steps = _blocking(Calls.score_steps)
    score_outcomes = _blocking(Calls.score_outcomes)
    score_conversations = _blocking(Calls.score_conversations)
    rank = _blocking(Calls.rank)
    verify = _blocking(Calls.verify)
    put_image = _blocking(Calls.put_image)
    models = _blocking(Calls.models)
    ready = _blocking(Calls.ready)
    create_job = _blocking(Calls.create_job)
    append_groups = _blocking(Calls.append_groups)
    job = _blocking(Calls.job)
    job_results = _blocking(Calls.job_results)
    cancel_job = _blocking(Calls.cancel_job)
    # The calls that wait for a wake may hold all permits.
    sleep = _blocking(Calls.sleep, permit=False)
    wake = _blocking(Calls.wake, permit=False)
    reload = _blocking(Calls.reload, permit=False)

    def close(self) -> None:
        """Close its connections; calls under way fail."""
        for lane in self._lanes.closing():
            lane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._server.shown!r})"

    def _run(self, script: Script[Result]) -> Result:
        reply: Reply = None
        try:
            while True:
                reply = self._do(script.send(reply))
        except StopIteration as end:
            return cast(Result, end.value)

    def _do(self, effect: Send | Wait | Work | Alone) -> Reply:
        match effect:
            case Send():
                return self._send(effect)
            case Wait():
                time.sleep(effect.seconds)
            case Work():
                effect.run()
            case Alone():
                with self._locks.named(effect.name):
                    self._run(effect.script)
        return None

    def _send(self, send: Send) -> Answer | SteelyardError:
        try:
            with self._lanes.lent() as lane:
                return lane.send(send)
        except SteelyardError as error:
            return error


class AsyncClient:
    """The same client for the tasks of one event loop; close it with `aclose`, or use it in an `async with`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._server = find_server(url, api_key)
        self._calls = _calls(max_concurrency, retry, timeout_s)
        self._permits = asyncio.BoundedSemaphore(max_concurrency)
        self._locks: _Locks[asyncio.Lock] = _Locks(asyncio.Lock)
        self._lanes = Lanes(async_lanes(self._server))

    score_steps = _awaiting(Calls.score_steps)
    score_outcomes = _awaiting(Calls.score_outcomes)
    score_conversations = _awaiting(Calls.score_conversations)
    rank = _awaiting(Calls.rank)
    verify = _awaiting(Calls.verify)
    put_image = _awaiting(Calls.put_image)
    models = _awaiting(Calls.models)
    ready = _awaiting(Calls.ready)
    create_job = _awaiting(Calls.create_job)
    append_groups = _awaiting(Calls.append_groups)
    job = _awaiting(Calls.job)
    job_results = _awaiting(Calls.job_results)
    cancel_job = _awaiting(Calls.cancel_job)
    sleep = _awaiting(Calls.sleep, permit=False)
    wake = _awaiting(Calls.wake, permit=False)
    reload = _awaiting(Calls.reload, permit=False)

    async def aclose(self) -> None:
        """Close its connections; calls under way fail."""
        for lane in self._lanes.closing():
            await lane.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self._server.shown!r})"

    async def _run(self, script: Script[Result]) -> Result:
        reply: Reply = None
        try:
            while True:
                reply = await self._do(script.send(reply))
        except StopIteration as end:
            return cast(Result, end.value)

    async def _do(self, effect: Send | Wait | Work | Alone) -> Reply:
        match effect:
            case Send():
                return await self._send(effect)
            case Wait():
                await asyncio.sleep(effect.seconds)
            case Work():
                await asyncio.to_thread(effect.run)
            case Alone():
                async with self._locks.named(effect.name):
                    await self._run(effect.script)
        return None

    async def _send(self, send: Send) -> Answer | SteelyardError:
        try:
            with self._lanes.lent() as lane:
                return await lane.send(send)
        except SteelyardError as error:
            return error


def _calls(max_concurrency: int, retry: Retry | None, timeout_s: float | None) -> Calls:
    """Raises InvalidCall for settings that make no sense."""
    if max_concurrency < 1:
        raise InvalidCall(f"max_concurrency: {max_concurrency} is less than 1")
    check_timeout(timeout_s)
    return Calls(retry or Retry(), timeout_s)
