"""The route of verifiable rewards: thin, as all of them."""

from fastapi import APIRouter, Request, Response

from service.body import parse_by
from service.middleware import CLIENT_CLOSED_REQUEST
from service.routes import ERRORS, Caller, body_schema, gateway_of, unless_gone
from service.verify.body import read_batch
from steelyard.verify_schema import VerifyResponse

router = APIRouter()


@router.post(
    "/verify",
    response_model=None,
    responses={200: {"model": VerifyResponse}, **ERRORS},
    openapi_extra=body_schema({"$ref": "#/components/schemas/VerifyRequest"}),
    summary="Weigh responses against their solutions by rule, without a model",
)
async def verify(request: Request, name: Caller) -> Response:
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        sent = await parse_by(read_batch, body)
        answer = await unless_gone(request, gateway.verifier.verify(sent, name))
    if answer is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(answer, media_type="application/json")
