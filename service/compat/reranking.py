"""`/score` and `/rerank` of vLLM, Cohere and Jina: a question, and the answers that are weighed against it."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from service.compat.asking import Group
from service.compat.foreign import Document, DocumentInput, Documents, OneOrMore, content_of_document
from service.compat.vllm_body import VllmBody, body_of, respond, usage
from service.compat.weighing import Weighing, choose, weigh
from service.routes import ERRORS, Caller, body_schema, scoring_of
from steelyard.schema import Message

# The names of the two sides in each form of the body.
_SIDES = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))

router = APIRouter()


class ScoreBody(VllmBody):
    """One question and N answers, or N questions with an answer each; under any of vLLM's pairs of names."""

    queries: OneOrMore | None = None
    documents: OneOrMore | None = None
    items: OneOrMore | None = None
    text_1: OneOrMore | None = None
    text_2: OneOrMore | None = None
    data_1: OneOrMore | None = None
    data_2: OneOrMore | None = None

    @model_validator(mode="after")
    def _one_pair(self) -> Self:
        names = {name for pair in _SIDES for name in pair}
        given = {name for name in names if getattr(self, name) is not None}
        if not any(given == set(pair) for pair in _SIDES):
            pairs = "; ".join(" and ".join(pair) for pair in _SIDES)
            raise ValueError(f"needs just one pair of {pairs}")
        questions, answers = self.sides()
        if len(questions) not in (1, len(answers)):
            raise ValueError(f"{len(questions)} questions and {len(answers)} answers: one question, or one for each")
        return self

    def sides(self) -> tuple[Sequence[str | Document], Sequence[str | Document]]:
        """The questions and the answers, each a list."""
        pair = next(pair for pair in _SIDES if all(getattr(self, name) is not None for name in pair))
        one, other = (getattr(self, name) for name in pair)
        return (one if isinstance(one, list) else [one], other if isinstance(other, list) else [other])

    def ask(self) -> list[Group]:
        """One group for one question."""
        questions, answers = self.sides()
        if len(questions) == 1:
            return [_group(questions[0], answers, 0)]
        pairs = enumerate(zip(questions, answers, strict=True))
        return [_group(question, [answer], place) for place, (question, answer) in pairs]


class RerankBody(VllmBody):
    """One question and the answers that are to be put in order."""

    query: DocumentInput
    documents: Documents
    top_n: int | None = Field(None, ge=0, description="So many of the best; 0 and null are all. All are scored.")
    return_documents: bool | None = Field(None, description="False leaves the documents out of the answer.")
    max_tokens_per_doc: int | None = Field(None, ge=1, description="Nothing is ever cut: refused if it could be.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        limit = self.max_tokens_per_doc
        for index, document in enumerate(self.documents if limit is not None else ()):
            # No tokenizer that is served makes more tokens of a text than it has bytes.
            if limit is not None and len(_text(document).encode()) > limit:
                raise ValueError(
                    f"max_tokens_per_doc: documents.{index} may have more tokens than {limit}, and a cut answer would "
                    f"get another answer's score: leave it out"
                )
        return self

    def ask(self) -> list[Group]:
        """All of it is one group."""
        return [_group(self.query, self.documents, 0)]


@router.post(
    "/score",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/ScoreBody"}),
    summary="vLLM: the reward of each answer to a question",
)
@router.post("/v1/score", include_in_schema=False)
async def score(request: Request, caller: Caller) -> Response:
    async with body_of(request, ScoreBody) as body:
        weighing = await _weigh(request, caller, body)
        data = [
            {"index": index, "object": "score", "score": body.value(item)} for index, item in enumerate(weighing.items)
        ]
        answer = {"id": _id("score", body), "object": "list", "created": int(time.time()), "data": data}
        return respond(body, answer | _ending(body, weighing))


@router.post(
    "/rerank",
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/RerankBody"}),
    summary="vLLM, Cohere, Jina: answers to a question, best first",
)
@router.post("/v1/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(request: Request, caller: Caller) -> Response:
    async with body_of(request, RerankBody) as body:
        weighing = await _weigh(request, caller, body)
        # By the reward itself: a sigmoid can make equals of what is not. Ties keep the caller's order.
        order = sorted(range(len(weighing.items)), key=lambda index: -weighing.items[index].score)
        results = [
            {"index": index}
            | ({} if body.return_documents is False else {"document": _shown(body.documents[index])})
            | {"relevance_score": body.value(weighing.items[index])}
            for index in order[: body.top_n or None]
        ]
        meta = {"api_version": {"version": "2"}, "tokens": {"input_tokens": weighing.prompt_tokens}}
        return respond(body, {"id": _id("rerank", body), "results": results, "meta": meta} | _ending(body, weighing))


async def _weigh(request: Request, caller: str, body: ScoreBody | RerankBody) -> Weighing:
    model = choose(scoring_of(request).catalogue, body.model, ())
    body.check(model)
    return await weigh(request, caller, model, body, body.ask, "documents")


def _group(question: str | Document, answers: Sequence[str | Document], place: int) -> Group:
    """The answers' places follow one another from `place` on."""
    asked = Message(role="user", content=content_of_document(question, "query"))
    contents = (content_of_document(answer, f"documents.{index}") for index, answer in enumerate(answers, place))
    return Group((asked,), tuple(contents), tuple(range(place, place + len(answers))))


def _text(document: str | Document) -> str:
    content = content_of_document(document, "documents")
    return content if isinstance(content, str) else "".join(part.text for part in content if part.type == "text")


def _shown(document: str | Document) -> dict[str, Any]:
    """As vLLM gives a document back."""
    if isinstance(document, str):
        return {"text": document, "multi_modal": None}
    parts = None if document.content is None else [part.model_dump() for part in document.content]
    return {"text": document.text, "multi_modal": parts} | ({} if document.image is None else {"image": document.image})


def _id(prefix: str, body: VllmBody) -> str:
    return f"{prefix}-{body.request_id or uuid.uuid4().hex}"


def _ending(body: VllmBody, weighing: Weighing) -> dict[str, Any]:
    model = weighing.model
    return {"model": model.name, "usage": usage(weighing), "activation": body.activation(model)}
