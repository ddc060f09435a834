"""The routes that command the server: sleep, wake, reload."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.auth import admin
from service.body import parse
from service.errors import Unavailable
from service.loading import Loading
from service.routes import ERRORS, body_schema, gateway_of, scoring_of
from steelyard.schema import Loaded, ReloadRequest

router = APIRouter(prefix="/admin", tags=["admin"])


async def admin_of(request: Request) -> str:
    """Raises InvalidKey and NotAllowed."""
    return admin(request.headers.get("authorization"), gateway_of(request).settings.admin_key)


Admin = Annotated[str, Depends(admin_of)]


@router.post("/sleep", response_model=Loaded, responses=ERRORS, summary="Free the device; groups are accepted and wait")
async def sleep(request: Request, _: Admin) -> Loaded:
    await _loading_of(request).sleep()
    return _loaded(request)


@router.post("/wake", response_model=Loaded, responses=ERRORS, summary="Load the models again")
async def wake(request: Request, _: Admin) -> Loaded:
    await _loading_of(request).wake()
    return _loaded(request)


@router.post(
    "/reload",
    response_model=Loaded,
    responses=ERRORS,
    openapi_extra=body_schema({"$ref": "#/components/schemas/ReloadRequest"}, required=False),
    summary="Serve other weights, or read the same sources again, without a dropped request",
)
async def reload(request: Request, _: Admin) -> Loaded:
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        asked = await parse(ReloadRequest, body or b"{}")
    await _loading_of(request).reload(asked.models)
    return _loaded(request)


def _loading_of(request: Request) -> Loading:
    """Raises Unavailable until the models are loaded."""
    gateway = gateway_of(request)
    if gateway.loading is None:
        raise Unavailable(gateway.progress)
    return gateway.loading


def _loaded(request: Request) -> Loaded:
    asleep = _loading_of(request).asleep
    return Loaded(status="asleep" if asleep else "awake", models=scoring_of(request).catalogue.served())
