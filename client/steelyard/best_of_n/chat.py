"""One text at a time from an OpenAI-compatible `chat/completions` endpoint."""

import asyncio
import base64
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

import httpx2
from pydantic import BaseModel, ValidationError

from steelyard.best_of_n.candidates import STEP_SEPARATOR, Draw, Drawn
from steelyard.best_of_n.failures import GeneratorFailed, GeneratorGone, GeneratorRefused
from steelyard.errors import ConnectionFailed, InvalidCall
from steelyard.pictures import Picture
from steelyard.retry import Retry, parse_retry_after

INSTRUCTION = "Reason step by step with a blank line after each step, and end with a line `Answer: …`."
MARKER = "<image>"
_LONGEST_QUOTE = 200
_MOST_BYTES = 16 * 2**20
_CONNECT_S = 10.0
# A wrong key, a route or a model that is not there: the next request fares no better.
_HOPELESS = frozenset({401, 403, 404, 405})
_TRANSIENT = frozenset({408, 409, 425, 429})
_BYTES_A_TOKEN = 4
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp", b"RIFF": "webp", b"II*": "tiff"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its pictures, which `<image>` may place; without a marker they come first."""

    question: str
    pictures: tuple[Picture, ...] = ()


class Generator(Protocol):
    """Anything that answers, or goes on from a draw's steps by one."""

    async def draw(self, asked: Asked, draw: Draw, *, one_step: bool) -> Drawn:
        """Raises GeneratorFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """What besides the question decides a text; `more` is put into every request as it is.

    `go_on` is put into those that continue a solution, whose last message is then the assistant's: by default what vLLM
    and SGLang understand. `instruction` follows the question.
    """

    temperature: float = 1.0
    max_tokens: int = 2048
    instruction: str = INSTRUCTION
    system: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    go_on: Mapping[str, object] = field(
        default_factory=lambda: {"continue_final_message": True, "add_generation_prompt": False}
    )


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    # vLLM's: the text that stopped it, null where the model itself ended.
    stop_reason: str | int | None = None


class _Usage(BaseModel):
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


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
        answer = await self._post(self.body(asked, draw, one_step=one_step))
        try:
            completion = _Completion.model_validate_json(answer)
        except ValidationError:
            raise GeneratorFailed(f"the generator's answer is no chat completion: {_excerpt(answer)}") from None
        if not completion.choices:
            raise GeneratorRefused("the generator's answer has no choices")
        return _drawn(completion.choices[0], completion.usage, stepwise=one_step)

    def body(self, asked: Asked, draw: Draw, *, one_step: bool) -> dict[str, object]:
        """The request of one draw."""
        decoding = self._decoding
        messages: list[dict[str, object]] = [{"role": "user", "content": _content(asked, decoding.instruction)}]
        if decoding.system is not None:
            messages.insert(0, {"role": "system", "content": decoding.system})
        body: dict[str, object] = {"model": self._model, "messages": messages, "temperature": decoding.temperature}
        body |= {"max_tokens": decoding.max_tokens, "stream": False}
        body |= {} if draw.seed is None else {"seed": draw.seed}
        body |= {"stop": [STEP_SEPARATOR]} if one_step else {}
        if draw.steps:
            messages.append({"role": "assistant", "content": STEP_SEPARATOR.join((*draw.steps, ""))})
            body |= decoding.go_on
        return body | dict(decoding.more)

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
        message = f"the generator answers {response.status_code}: {_excerpt(content)}"
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


def _drawn(choice: _Choice, usage: _Usage | None, *, stepwise: bool) -> Drawn:
    """Of a single step what stands before a blank line, in case the endpoint does not know `stop`."""
    text = choice.message.content or ""
    tokens = usage.completion_tokens if usage is not None else None
    estimated = -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)
    told = "stop_reason" in choice.model_fields_set
    ended = choice.stop_reason is None and choice.finish_reason == "stop" if told else None
    if stepwise:
        text, blank, rest = text.strip("\n").partition(STEP_SEPARATOR)
        ended = False if blank and rest else ended
    return Drawn(
        text=text if text.strip() else "",
        tokens=estimated if tokens is None else max(0, tokens),
        estimated=tokens is None,
        finish=choice.finish_reason,
        ended=ended,
    )


def _content(asked: Asked, instruction: str) -> list[dict[str, object]]:
    """Pictures as `image_url` parts where the question places them. Raises InvalidCall for another count of markers."""
    text = f"{asked.question}\n\n{instruction}" if instruction else asked.question
    shown: list[dict[str, object]] = [
        {"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in asked.pictures
    ]
    markers = asked.question.count(MARKER) if shown else 0
    if not markers:
        return [*shown, _text(text)]
    if markers != len(shown):
        raise InvalidCall(f"question: {markers} {MARKER} markers for {len(shown)} pictures")
    first, *others = text.split(MARKER, markers)
    after = [part for picture, other in zip(shown, others, strict=True) for part in (picture, _text(other))]
    return [part for part in (_text(first), *after) if part.get("text") != ""]


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _data_url(picture: Picture) -> str:
    kind = next((kind for magic, kind in _MAGIC.items() if picture.content.startswith(magic)), None)
    media_type = f"image/{kind}" if kind else "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(picture.content).decode()}"


def _excerpt(content: bytes) -> str:
    return " ".join(content[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace").split())[:_LONGEST_QUOTE]
