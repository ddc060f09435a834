"""What a chat completion is asked, and what is made of its answer."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import BaseModel, ValidationError

from steelyard.best_of_n.candidates import STEP_SEPARATOR, Draw, Drawn
from steelyard.best_of_n.failures import GeneratorFailed, GeneratorRefused
from steelyard.errors import InvalidCall
from steelyard.pictures import Picture

INSTRUCTION = "Reason step by step with a blank line after each step, and end with a line `Answer: …`."
MARKER = "<image>"
_LONGEST_QUOTE = 200
_BYTES_A_TOKEN = 4
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp", b"RIFF": "webp", b"II*": "tiff"}


@dataclass(frozen=True)
class Asked:
    """A question and its pictures, which `<image>` may place; without a marker they come first."""

    question: str
    pictures: tuple[Picture, ...] = ()

    @cached_property
    def data_urls(self) -> tuple[str, ...]:
        """The pictures as a chat completion carries them, encoded once for all draws."""
        return tuple(map(_data_url, self.pictures))


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


def request_of(asked: Asked, draw: Draw, model: str, decoding: Decoding, *, one_step: bool) -> dict[str, object]:
    """The request of one draw. Raises InvalidCall for another count of markers than of pictures."""
    messages: list[dict[str, object]] = [{"role": "user", "content": _content(asked, decoding.instruction)}]
    if decoding.system is not None:
        messages.insert(0, {"role": "system", "content": decoding.system})
    body: dict[str, object] = {"model": model, "messages": messages, "temperature": decoding.temperature}
    body |= {"max_tokens": decoding.max_tokens, "stream": False}
    body |= {} if draw.seed is None else {"seed": draw.seed}
    body |= {"stop": [STEP_SEPARATOR]} if one_step else {}
    if draw.steps:
        messages.append({"role": "assistant", "content": STEP_SEPARATOR.join((*draw.steps, ""))})
        body |= decoding.go_on
    return body | dict(decoding.more)


def read_completion(answer: bytes, *, one_step: bool) -> Drawn:
    """The text, and whether more is to come. Raises GeneratorFailed for what is no completion."""
    try:
        completion = _Completion.model_validate_json(answer)
    except ValidationError:
        raise GeneratorFailed(f"the generator's answer is no chat completion: {excerpt(answer)}") from None
    if not completion.choices:
        raise GeneratorRefused("the generator's answer has no choices")
    return _drawn(completion.choices[0], completion.usage, stepwise=one_step)


def excerpt(content: bytes) -> str:
    """Its beginning, on one line."""
    return " ".join(content[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace").split())[:_LONGEST_QUOTE]


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
    shown: list[dict[str, object]] = [{"type": "image_url", "image_url": {"url": url}} for url in asked.data_urls]
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
