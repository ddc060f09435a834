"""The route of rankings: thin, as all of them."""

from fastapi import APIRouter, Request, Response

from service.body import parse
from service.middleware import CLIENT_CLOSED_REQUEST
from service.rank import Ranker
from service.routes import ERRORS, Caller, body_schema, gateway_of, scoring_of, unless_gone
from steelyard.rank_schema import RankRequest, RankResponse

router = APIRouter()


@router.post(
    "/rank",
    response_model=None,
    responses={200: {"model": RankResponse}, **ERRORS},
    openapi_extra=body_schema({"$ref": "#/components/schemas/RankRequest"}),
    summary="Put candidates in order by one model, or by a blend of several",
)
async def rank(request: Request, name: Caller) -> Response:
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        ranker = Ranker(scoring_of(request), gateway.images, gateway.settings)
        ranking = await unless_gone(request, ranker.rank(await parse(RankRequest, body), name))
    if ranking is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    slowest_ms = max(part.timings_ms.total for part in ranking.models.values())
    return Response(
        ranking.model_dump_json(),
        media_type="application/json",
        headers={"Server-Timing": f"total;dur={slowest_ms}"},
    )
