"""One text at a time from an OpenAI-compatible `chat/completions` endpoint."""

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

import httpx2

from steelyard.best_of_n.candidates import Draw, Drawn
from steelyard.best_of_n.chat_format import Asked, Decoding, excerpt, read_completion, request_of
from steelyard.best_of_n.failures import GeneratorFailed, GeneratorGone, GeneratorRefused
from steelyard.errors import ConnectionFailed, InvalidCall
from steelyard.retry import Retry, parse_retry_after

_MOST_BYTES = 16 * 2**20
_CONNECT_S = 10.0
# A wrong key, a route or a model that is not there: the next request fares no better.
_HOPELESS = frozenset({401, 403, 404, 405})
_TRANSIENT = frozenset({408, 409, 425, 429})


class Generator(Protocol):
    """Anything that answers, or goes on from a draw's steps by one."""

    async def draw(self, asked: Asked, draw: Draw, *, one_step: bool) -> Drawn:
        """Raises GeneratorFailed."""
        ...


class ChatEndpoint:
    """Requests are tried again when the endpoint is overloaded or away; close it with `aclose`.

    `url` goes up to and with `/v1`. `timeout_s` bounds one attempt from its first byte to its last.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        decoding: Decoding | None = None,
        retry: Retry | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        limits = httpx2.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s), pool=None)
        try:
            self._http = httpx2.AsyncClient(base_url=url.rstrip("/") + "/", headers=headers, timeout=limits)
        except (httpx2.InvalidURL, ValueError, UnicodeError) as error:
            raise InvalidCall(f"generator: {error}") from None
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise InvalidCall("generator: an address begins with http:// or https:// and names a host")
        self._model, self._decoding = model, decoding or Decoding()
        self._retry, self._timeout_s = retry or Retry(max_retries=4), timeout_s

    async def aclose(self) -> None:
        await self._http.aclose()

    async def draw(self, asked: Asked, draw: Draw, *, one_step: bool) -> Drawn:
        """Raises GeneratorFailed."""
        body = request_of(asked, draw, self._model, self._decoding, one_step=one_step)
        return read_completion(await self._post(body), one_step=one_step)

    async def _post(self, body: Mapping[str, object]) -> bytes:
        """The success that comes in the end. Raises GeneratorFailed."""
        began = time.monotonic()
        for attempt in count():
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._try(body)
            except TimeoutError:
                raise GeneratorFailed(f"the generator gave no answer within {self._timeout_s:g} s") from None
            except ConnectionFailed as failure:
                pause_s = self._retry.pause_s(failure, attempt, time.monotonic() - began, random.random())  # noqa: S311
                if pause_s is None:
                    raise GeneratorFailed(failure.message) from None
            await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _try(self, body: Mapping[str, object]) -> bytes:
        """Raises ConnectionFailed for what may pass, GeneratorFailed for what will not."""
        try:
            async with self._http.stream("POST", "chat/completions", json=body) as response:
                content = await _read(response)
        except httpx2.TimeoutException as error:
            if isinstance(error, httpx2.ConnectTimeout):
                raise ConnectionFailed("the generator was not reached: no connection in time") from None
            raise TimeoutError from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise GeneratorGone(f"generator: {error}") from None
        except httpx2.TransportError as error:
            raise ConnectionFailed(f"the generator was not reached: {str(error) or type(error).__name__}") from None
        except (httpx2.HTTPError, ValueError) as error:
            raise GeneratorFailed(f"the generator's answer cannot be read: {error}") from None
        if response.status_code == 200:
            return content
        message = f"the generator answers {response.status_code}: {excerpt(content)}"
        if response.status_code in _HOPELESS:
            raise GeneratorGone(message)
        if response.status_code not in _TRANSIENT and response.status_code < 500:
            raise GeneratorRefused(message)
        failure = ConnectionFailed(message)
        failure.retry_after_s = parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        raise failure


async def _read(response: httpx2.Response) -> bytes:
    """The whole answer, which may not be endless. Raises GeneratorFailed."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise GeneratorFailed(f"the generator's answer has more than {_MOST_BYTES} bytes")
    return b"".join(parts)
