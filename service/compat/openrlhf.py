"""OpenRLHF's `/get_reward`: whole chats as the policy's tokenizer decodes them."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator

from service.compat.asking import Group
from service.compat.chat_text import read_answered
from service.compat.choice import Choice, read_choice
from service.compat.foreign import Foreign
from service.compat.trainer_text import group_of, split
from service.compat.vllm_body import body_of
from service.compat.weighing import choose, weigh
from service.routes import ERRORS, Caller, body_schema, scoring_of
from steelyard.schema import MOST_ITEMS

Texts = Annotated[list[str], Field(max_length=MOST_ITEMS, fail_fast=True)]

router = APIRouter()


class GetRewardBody(Foreign):
    """Lists of the same length; a surplus server gets empty ones."""

    query: Texts = Field(description="Prompt and response with their special tokens.")
    prompts: Texts | None = Field(None, description="The prompts alone: what follows them is the response.")
    labels: list[Any] | None = Field(None, max_length=MOST_ITEMS, description="Of any form; may hold sha256: ids.")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for name, values in (("prompts", self.prompts), ("labels", self.labels)):
            if values and len(values) != len(self.query):
                raise ValueError(f"{name}: {len(values)}, and there are {len(self.query)} queries")
        return self

    def ask(self) -> list[Group]:
        """A group for each query. Raises InvalidRequest for a query that cannot be taken apart."""
        return [self._group(place) for place in range(len(self.query))]

    def _group(self, place: int) -> Group:
        text, field = self.query[place], f"query.{place}"
        chat = read_answered(text, self.prompts[place]) if self.prompts else None
        return group_of(chat or split(text, field), self.labels[place] if self.labels else None, place, field)


@router.post(
    "/get_reward",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/GetRewardBody"}),
    summary="OpenRLHF: the reward of whole chats",
)
async def get_reward(request: Request, caller: Caller) -> Response:
    choice = read_choice(Choice, request.query_params)
    async with body_of(request, GetRewardBody) as body:
        if not body.query:
            return JSONResponse({"rewards": [], "scores": [], "extra_logs": {}})
        model = choose(scoring_of(request).catalogue, choice.model, ())
        weighing = await weigh(request, caller, model, choice, body.ask, "query")
        logs: dict[str, list[float]] = {}
        if model.kind == "steps":
            logs = {
                "steps": [float(len(item.steps)) for item in weighing.items],
                "lowest_step": [min(item.steps) for item in weighing.items],
            }
        return JSONResponse(
            {
                "rewards": [item.score for item in weighing.items],
                "scores": [item.bounded for item in weighing.items],
                "extra_logs": logs,
            }
        )
