"""All compatible routes, and the bodies that `/docs` describes."""

from fastapi import APIRouter
from pydantic import BaseModel

from service.compat import listing, openrlhf, reranking, slime, vllm
from service.compat.openrlhf import GetRewardBody
from service.compat.reranking import RerankBody, ScoreBody
from service.compat.slime import SlimeBody
from service.compat.vllm import ChatsBody, PoolingBody

router = APIRouter(tags=["compatible"])
for each in (openrlhf, vllm, reranking, slime, listing):
    router.include_router(each.router)

BODIES: tuple[type[BaseModel], ...] = (GetRewardBody, PoolingBody, ChatsBody, ScoreBody, RerankBody, SlimeBody)
