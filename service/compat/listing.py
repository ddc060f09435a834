"""The served models as OpenAI's clients list them."""

import time

from fastapi import APIRouter, Request

from service.routes import ERRORS, Caller, scoring_of
from steelyard.schema import ServedModel

router = APIRouter()


@router.get("/v1/models", responses=ERRORS, summary="OpenAI: the models served here")
async def list_models(request: Request, _: Caller) -> dict[str, object]:
    return {"object": "list", "data": [_listed(model) for model in scoring_of(request).catalogue.served()]}


@router.get("/v1/models/{name:path}", responses=ERRORS, summary="OpenAI: one of them")
async def retrieve_model(request: Request, name: str, _: Caller) -> dict[str, object]:
    catalogue = scoring_of(request).catalogue
    return _listed(catalogue.shown(catalogue.named(name)))


def _listed(model: ServedModel) -> dict[str, object]:
    """As vLLM lists it; `created` is the time of asking there too."""
    return {
        "id": model.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "steelyard",
        "root": model.name,
        "parent": None,
        "max_model_len": model.limits.max_tokens,
        "kind": model.kind,
        "weights": model.provenance.weights,
    }
