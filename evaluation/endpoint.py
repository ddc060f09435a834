"""One answer at a time from any OpenAI-compatible endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from evaluation.errors import EvaluationError, Interrupted, Refused
from steelyard.best_of_n import (
    Asked,
    ChatEndpoint,
    Decoding,
    Draw,
    GeneratorFailed,
    GeneratorRefused,
)
from steelyard.errors import SteelyardError
from steelyard.pictures import picture_of
from steelyard.retry import Retry

_MOST_RETRIES = 1000


@dataclass(frozen=True, slots=True)
class Sampling:
    """What besides the question decides an answer."""

    model: str
    temperature: float
    max_tokens: int
    instruction: str


class Endpoint:
    """`POST …/chat/completions`, tried again when it is overloaded or away; use it in `async with`."""

    def __init__(self, url: str, api_key: str | None, sampling: Sampling, retry_s: float, timeout_s: float) -> None:
        decoding = Decoding(sampling.temperature, sampling.max_tokens, sampling.instruction)
        retry = Retry(max_retries=_MOST_RETRIES, within_s=retry_s)
        try:
            self._chat = ChatEndpoint(
                url, sampling.model, api_key=api_key, decoding=decoding, retry=retry, timeout_s=timeout_s
            )
        except SteelyardError as error:
            raise EvaluationError(f"--endpoint: {error}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._chat.aclose()

    async def answer(self, question: str, images: Sequence[Path], seed: int) -> str:
        """The text, empty if the model gave none. Raises Refused for this one, Interrupted for all."""
        asked = Asked(question, tuple(picture_of(path.read_bytes()) for path in images))
        try:
            return (await self._chat.draw(asked, Draw(seed, seed), one_step=False)).text
        except GeneratorRefused as error:
            raise Refused(error.message) from None
        except GeneratorFailed as error:
            raise Interrupted(error.message) from None
