"""One answer at a time from any OpenAI-compatible endpoint."""

import asyncio
import base64
import mimetypes
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from pydantic import BaseModel, ValidationError

from evaluation.errors import EvaluationError, Interrupted, Refused
from steelyard.retry import parse_retry_after

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_LONGEST_QUOTE = 200
# A question past the model's context, or a picture that it does not take.
_ABOUT_THE_REQUEST = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What besides the question decides an answer."""

    model: str
    temperature: float
    max_tokens: int
    instruction: str


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice]


class Endpoint:
    """`POST …/chat/completions`, tried again when it is overloaded or away; close it, or use it in `async with`."""

    def __init__(self, url: str, api_key: str | None, sampling: Sampling, retry_s: float, timeout_s: float) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            self._http = httpx2.AsyncClient(base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout_s)
        except (httpx2.InvalidURL, ValueError) as error:
            raise EvaluationError(f"--endpoint: {error}") from None
        self._sampling = sampling
        self._retry_s = retry_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def answer(self, question: str, images: Sequence[Path], seed: int) -> str:
        """The text, empty if the model gave none. Raises Refused for this one, Interrupted for all."""
        body = self._body(question, images, seed)
        give_up = time.monotonic() + self._retry_s
        pause_s = _FIRST_PAUSE_S
        while True:
            failure, retry_after_s = "", 0.0
            try:
                response = await self._http.post("chat/completions", json=body)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise EvaluationError(f"--endpoint: {error}") from None
            except httpx2.TransportError as error:
                failure = f"the endpoint was not reached: {str(error) or type(error).__name__}"
            else:
                if response.status_code == 200:
                    return _text(response)
                failure = f"the endpoint answers {response.status_code}: {response.text[:_LONGEST_QUOTE]}"
                if response.status_code in _ABOUT_THE_REQUEST:
                    raise Refused(failure)
                if response.status_code != 429 and response.status_code < 500:
                    raise Interrupted(failure)
                retry_after_s = parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC)) or 0.0
            # Full jitter on top of what the endpoint asks for, so that those refused together do not return together.
            wait_s = retry_after_s + random.random() * pause_s
            if time.monotonic() + wait_s > give_up:
                raise Interrupted(failure)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _body(self, question: str, images: Sequence[Path], seed: int) -> Mapping[str, object]:
        pictures = [{"type": "image_url", "image_url": {"url": _data_url(path)}} for path in images]
        text = f"{question}\n\n{self._sampling.instruction}".strip()
        return {
            "model": self._sampling.model,
            "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}],
            "temperature": self._sampling.temperature,
            "max_tokens": self._sampling.max_tokens,
            "seed": seed,
        }


def _data_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _text(response: httpx2.Response) -> str:
    try:
        completion = _Completion.model_validate_json(response.content)
    except ValidationError:
        raise Interrupted(f"the endpoint's answer is no chat completion: {response.text[:_LONGEST_QUOTE]}") from None
    return (completion.choices[0].message.content or "") if completion.choices else ""
