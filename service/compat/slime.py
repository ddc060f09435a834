"""slime's remote reward: one prompt and its response; the whole JSON body of the answer is the reward."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Field, Tag

from service.compat.asking import Group
from service.compat.chat_text import read_answered, without_ends
from service.compat.choice import Choice, read_choice
from service.compat.foreign import Foreign, Messages, message_of
from service.compat.trainer_text import group_of, picture_ids, split
from service.compat.vllm_body import body_of
from service.compat.weighing import choose, weigh
from service.routes import ERRORS, Caller, body_schema, scoring_of

router = APIRouter()


class SlimeChoice(Choice):
    """What may stand after the question mark."""

    object: bool = Field(False, description="Answer an object, for slime's --reward-key, instead of a number.")


class SlimeBody(Foreign):
    """The prompt as the policy's template made it, as plain text, or as messages."""

    prompt: Annotated[
        Annotated[str, Tag("[text]")] | Annotated[Messages, Tag("[messages]")],
        Discriminator(lambda given: "[messages]" if isinstance(given, list) else "[text]"),
    ]
    response: str
    label: Any = None

    def ask(self) -> list[Group]:
        """One group. Raises InvalidRequest for a prompt that cannot be read, or shows a picture without an id."""
        if isinstance(self.prompt, str):
            whole = self.prompt + self.response
            chat = read_answered(whole, self.prompt) or split(whole, "prompt")
            return [group_of(chat, self.label, 0, "prompt")]
        messages = tuple(message_of(message) for message in self.prompt)
        # Messages may bring their pictures along; only those that do not have them named in the label.
        bring = any(not isinstance(message.content, str) for message in messages)
        images = () if bring else picture_ids(self.label)
        return [Group(messages, (without_ends(self.response),), (0,), images)]


@router.post(
    "/slime",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/SlimeBody"}),
    summary="slime: the reward of one response",
)
async def slime(request: Request, caller: Caller) -> Response:
    choice = read_choice(SlimeChoice, request.query_params)
    async with body_of(request, SlimeBody) as body:
        model = choose(scoring_of(request).catalogue, choice.model, ())
        weighing = await weigh(request, caller, model, choice, body.ask, "response")
        (item,) = weighing.items
        if not choice.object:
            return JSONResponse(item.score)
        return JSONResponse({"score": item.score, "bounded": item.bounded, "step_scores": item.steps or None})
