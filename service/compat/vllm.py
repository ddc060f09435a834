"""vLLM's `/pooling` and `/classify`: each item is a whole chat, whose last turn is the answer that is scored."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from service.compat.asking import Group
from service.compat.chat_text import looks_templated, read_chat
from service.compat.foreign import Messages, message_of
from service.compat.vllm_body import VllmBody, body_of, respond, usage
from service.compat.weighing import Weighed, Weighing, choose, weigh
from service.errors import InvalidRequest
from service.gateway_model import GatewayModel
from service.routes import ERRORS, Caller, body_schema, scoring_of
from steelyard.schema import MOST_ITEMS

_TASKS = ("token_classify", "classify", "reward", "encode", "score")

router = APIRouter()


class ChatsBody(VllmBody):
    """One chat as `messages`, or any number as texts in which a template has put their turns together."""

    input: str | list[Any] | None = Field(None, description="A text, or texts; token ids are refused.")
    messages: Messages | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("needs either input or messages")
        if isinstance(self.input, list):
            _check_texts(self.input)
        return self

    def ask(self) -> Sequence[Group]:
        """A group for each chat. Raises InvalidRequest for a text that cannot be taken apart."""
        if self.messages is not None:
            *before, last = (message_of(message) for message in self.messages)
            if last.role == "assistant":
                return [Group(tuple(before), (last.content,), (0,))]
            return [Group((*before, last), (None,), (0,))]
        texts = [self.input] if isinstance(self.input, str) else self.input or []
        return [_group(text, place) for place, text in enumerate(texts)]


class PoolingBody(ChatsBody):
    """What `/pooling` takes."""

    task: str | None = Field(None, description="classify gives one number; null and token_classify what the model has.")
    encoding_format: Literal["float"] = "float"

    @model_validator(mode="after")
    def _known_task(self) -> Self:
        if self.task not in (None, *_TASKS):
            raise ValueError(f"task: {self.task!r} is not what a reward model does: {', '.join(_TASKS)}")
        return self

    def check(self, model: GatewayModel) -> None:
        """Also raises InvalidRequest for steps that the model does not have."""
        super().check(model)
        if self.task == "token_classify" and model.kind == "outcome":
            raise InvalidRequest(f"task: {model.name} is an outcome reward model: it has one number an answer")

    def activation(self, model: GatewayModel) -> str:
        """Log-odds are a process model's numbers without their activation."""
        steps = model.kind == "steps" and self.task != "classify"
        return "none" if steps and self.use_activation is False else super().activation(model)

    def pooled(self, item: Weighed) -> list[float] | list[list[float]]:
        """A row a step with its one label; without steps the one number."""
        if self.task == "classify" or not item.steps:
            return [self.value(item)]
        return [[value] for value in (item.logits if self.use_activation is False else item.steps)]


@router.post(
    "/pooling",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/PoolingBody"}),
    summary="vLLM: the reward of every step, or of the answer",
)
async def pooling(request: Request, caller: Caller) -> Response:
    async with body_of(request, PoolingBody) as body:
        weighing = await _weigh(request, caller, body, ("steps", "outcome"))
        data = [
            {"index": index, "object": "pooling", "data": body.pooled(item)}
            for index, item in enumerate(weighing.items)
        ]
        return respond(body, _answer("pool", body, weighing, data))


@router.post(
    "/classify",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/ChatsBody"}),
    summary="vLLM: the reward of an answer as the probability of its only class",
)
async def classify(request: Request, caller: Caller) -> Response:
    async with body_of(request, ChatsBody) as body:
        weighing = await _weigh(request, caller, body, ("outcome", "steps"))
        data = [
            {"index": index, "label": "LABEL_0", "probs": [body.value(item)], "num_classes": 1}
            for index, item in enumerate(weighing.items)
        ]
        return respond(body, _answer("classify", body, weighing, data))


async def _weigh(request: Request, caller: str, body: ChatsBody, kinds: Sequence[str]) -> Weighing:
    model = choose(scoring_of(request).catalogue, body.model, kinds)
    body.check(model)
    return await weigh(request, caller, model, body, body.ask, "messages" if body.input is None else "input")


def _answer(prefix: str, body: VllmBody, weighing: Weighing, data: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{body.request_id or uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": weighing.model.name,
        "data": data,
        "usage": usage(weighing),
        "activation": body.activation(weighing.model),
    }


def _check_texts(items: Sequence[object]) -> None:
    if not items or len(items) > MOST_ITEMS:
        raise ValueError("input: a list holds from one text to what the server's limit is")
    others = [item for item in items if not isinstance(item, str)]
    if others and isinstance(others[0], int | list):
        raise ValueError(
            "input: token ids are not taken: a text does not always give the same ids back, and a picture's ids say "
            "nothing of the picture; send the text or messages"
        )
    if others:
        raise ValueError("input: a text or a list of texts")


def _group(text: str, place: int) -> Group:
    """A text without a template is an answer to nothing, which is what the model is then shown."""
    chat = read_chat(text)
    if chat is None:
        if looks_templated(text):
            raise InvalidRequest(f"input.{place}: its chat template is not one that is known here; send messages")
        return Group((), (text,), (place,))
    if chat.shown:
        raise InvalidRequest(f"input.{place}: a text cannot bring its pictures along; send messages")
    return Group(chat.messages, (chat.answer,), (place,))
