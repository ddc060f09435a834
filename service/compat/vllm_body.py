"""What vLLM's four bodies have in common: fields, which of them are refused, and what every answer says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.body import parse
from service.compat.choice import Choice
from service.compat.weighing import Weighed, Weighing
from service.errors import InvalidRequest
from service.gateway_model import GatewayModel
from service.routes import gateway_of

# These would change the number, so that ignoring them would answer another question than was asked.
_OWN_TEMPLATE = "a reward model has one template, its own"
_REFUSED = {
    "chat_template": _OWN_TEMPLATE,
    "chat_template_kwargs": _OWN_TEMPLATE,
    "add_generation_prompt": _OWN_TEMPLATE,
    "continue_final_message": _OWN_TEMPLATE,
    "instruction": "put what the model is to know into the question",
    "mm_processor_kwargs": "pictures are cut as the model's authors cut them; max_tiles is what may be chosen",
    "media_io_kwargs": "pictures are read as the model's authors read them",
    "activation": "it is called use_activation",
    "softmax": "it is called use_activation",
    "normalize": "it is called use_activation",
    "dimensions": "a score has none",
    "rank_fields": "send each document as the text that is to be scored",
    "relevant_spans": "an answer is scored as a whole; step_spans are in the answer of /score_steps",
    "max_chunks_per_doc": "an answer is scored whole",
    "max_tokens_per_query": "a question is never cut",
}
_NAMED = 16
IGNORED_HEADER = "x-ignored-fields"
Body = TypeVar("Body", bound=BaseModel)


class VllmBody(Choice):
    """Unknown fields are ignored, as vLLM does; the header `x-ignored-fields` of the answer names them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    request_id: str | None = Field(None, max_length=256, description="Comes back in the answer's id.")
    use_activation: bool | None = Field(
        None, description="False: an outcome model's own number, unbounded. Else its sigmoid, as vLLM's default."
    )
    truncate_prompt_tokens: int | None = Field(None, ge=-1, description="Nothing is ever cut: refused if it could be.")

    @model_validator(mode="after")
    def _nothing_that_changes_the_number(self) -> Self:
        for name, reason in _REFUSED.items():
            if (self.model_extra or {}).get(name):
                raise ValueError(f"{name}: not on this server: {reason}")
        return self

    def check(self, model: GatewayModel) -> None:
        """Raises InvalidRequest when a prompt that this model scores might have to be cut."""
        limit = self.truncate_prompt_tokens
        if limit is not None and 0 <= limit < model.max_tokens:
            raise InvalidRequest(
                f"truncate_prompt_tokens: a cut answer would get another answer's score; {model.name} scores up to "
                f"{model.max_tokens} tokens and refuses longer prompts: leave it out"
            )

    def value(self, item: Weighed) -> float:
        """An item's one number, as `activation` says."""
        return item.score if item.steps or self.use_activation is False else item.bounded

    def activation(self, model: GatewayModel) -> str:
        """What was applied to what the model's head gave; a process model's reward is made of probabilities."""
        return "none" if self.use_activation is False and model.kind == "outcome" else "sigmoid"


@asynccontextmanager
async def body_of(request: Request, kind: type[Body]) -> AsyncIterator[Body]:
    """The body, which counts among those under way while this is open. Raises what refuses it."""
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as content:
        yield await parse(kind, content)


def usage(weighing: Weighing) -> dict[str, Any]:
    """OpenAI's; nothing is generated."""
    return {
        "prompt_tokens": weighing.prompt_tokens,
        "total_tokens": weighing.prompt_tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": weighing.cached_tokens},
    }


def respond(body: VllmBody, content: dict[str, Any]) -> JSONResponse:
    """The answer, with the names of what was ignored."""
    ignored = [name[:64] for name in list(body.model_extra or {})[:_NAMED] if name not in _REFUSED]
    return JSONResponse(content, headers={IGNORED_HEADER: json.dumps(ignored)} if ignored else {})
