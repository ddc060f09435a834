"""The HTTP routes: thin, each one reads its request, asks, and writes the answer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from service.answer import whole
from service.auth import caller
from service.body import parse
from service.errors import ServiceError, Unavailable
from service.flight import Flight
from service.gateway import Gateway
from service.health import Unhealthy
from service.metrics import CONTENT_TYPE
from service.middleware import CLIENT_CLOSED_REQUEST
from service.queue import QueueUnavailable
from service.scoring import Scoring
from steelyard.schema import (
    CandidateScore,
    ErrorResponse,
    ScoredGroup,
    ScoreOutcomesRequest,
    ScoreOutcomesResponse,
    ScoreRequest,
    ScoreStepsRequest,
    ScoreStepsResponse,
    ServedModels,
    StoredImage,
)

NDJSON = "application/x-ndjson"

Answer = TypeVar("Answer")

router = APIRouter()


def gateway_of(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


def scoring_of(request: Request) -> Scoring:
    """Raises Unavailable until the models are loaded."""
    gateway = gateway_of(request)
    if gateway.scoring is None:
        raise Unavailable(gateway.progress)
    return gateway.scoring


async def caller_of(request: Request) -> str:
    """Raises InvalidKey. Async only so that the framework does not spend a thread on it."""
    settings = gateway_of(request).settings
    return caller(request.headers.get("authorization"), settings.api_key and settings.api_key + settings.admin_key)


Caller = Annotated[str, Depends(caller_of)]
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
}


def body_schema(
    schema: dict[str, Any], media_type: str = "application/json", *, required: bool = True
) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {media_type: {"schema": schema}}}}


@router.post(
    "/score_steps",
    response_model=None,
    responses={200: {"model": ScoreStepsResponse}, **ERRORS},
    openapi_extra=body_schema({"$ref": "#/components/schemas/ScoreStepsRequest"}),
    summary="Score every step of every candidate of one group",
)
async def score_steps(request: Request, name: Caller) -> Response:
    return await _score(request, name, ScoreStepsRequest)


@router.post(
    "/score_outcomes",
    response_model=None,
    responses={200: {"model": ScoreOutcomesResponse}, **ERRORS},
    openapi_extra=body_schema({"$ref": "#/components/schemas/ScoreOutcomesRequest"}),
    summary="Score candidate answers to the same messages, or whole conversations",
)
async def score_outcomes(request: Request, name: Caller) -> Response:
    return await _score(request, name, ScoreOutcomesRequest)


@router.put(
    "/images",
    response_model=StoredImage,
    responses=ERRORS,
    openapi_extra=body_schema({"type": "string", "format": "binary"}, "application/octet-stream"),
    summary="Store a picture under the hash of its bytes",
)
async def put_image(request: Request, _: Caller) -> StoredImage:
    gateway = gateway_of(request)
    limit = min(gateway.settings.max_image_bytes, gateway.settings.max_body_bytes)
    async with gateway.bodies.read(request, limit) as content:
        try:
            image = await asyncio.to_thread(gateway.images.publish, content)
        except QueueUnavailable as error:
            raise Unavailable(str(error)) from None
    return StoredImage(id=image.id, width=image.width, height=image.height, bytes=len(image.content))


@router.get("/models", response_model=ServedModels, responses=ERRORS, summary="The models served here")
async def list_models(request: Request, _: Caller) -> ServedModels:
    return ServedModels(data=scoring_of(request).catalogue.served())


@router.get("/health/live", summary="The process is up")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/health/ready", summary="Every model scores its canary as it did at the start")
async def ready(request: Request) -> JSONResponse:
    gateway = gateway_of(request)
    try:
        if gateway.canaries is None or gateway.scoring is None or gateway.loading is None:
            raise Unhealthy(gateway.progress)
        if gateway.scoring.draining:
            raise Unhealthy("the server is stopping")
        if gateway.loading.reloading:
            # Nothing can be said of the models, but those who call are answered.
            return JSONResponse({"status": "reloading"})
        await gateway.canaries.check()
    except Unhealthy as error:
        status = "asleep" if gateway.loading is not None and gateway.loading.asleep else "unavailable"
        return JSONResponse({"status": status, "reason": str(error)}, 503, {"Retry-After": "2"})
    return JSONResponse({"status": "ok"})


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    gateway = gateway_of(request)
    gateway.measure()
    return Response(gateway.metrics.render(), media_type=CONTENT_TYPE)


async def _score(request: Request, name: str, asked: type[ScoreRequest]) -> Response:
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        flight = scoring_of(request).open(await parse(asked, body), name)
        with flight.attended():
            if NDJSON in request.headers.get("accept", ""):
                return await _stream(request, flight)
            group = await unless_gone(request, flight.group())
    if group is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(
        whole(group, flight.results).model_dump_json(),
        media_type="application/json",
        headers={"Server-Timing": _server_timing(group)},
    )


async def unless_gone(request: Request, answer: Coroutine[Any, Any, Answer]) -> Answer | None:
    """The answer once it is there, or None when the caller hangs up first."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        for task in (answering, gone):
            task.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(request: Request, flight: Flight) -> Response:
    """Wait for the first result, so that a refusal is still an error status; then a result a line."""
    lines = _lines(flight)
    first = await unless_gone(request, anext(lines))
    if first is None:
        await lines.aclose()
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def all_lines() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(lines):
            yield first
            try:
                async for line in lines:
                    yield line
            except ServiceError as error:
                # The status has been sent: the error takes the place of the last line.
                yield _line(error.body(request.state.request_id))

    return StreamingResponse(all_lines(), media_type=NDJSON)


async def _lines(flight: Flight) -> AsyncGenerator[bytes, None]:
    with flight.attended():
        async for result in flight.stream():
            yield _line(result)
        yield _line(await flight.group())


def _line(part: CandidateScore | ScoredGroup | ErrorResponse) -> bytes:
    # Many clients end a line also at what Unicode calls a line's end, which an id may hold.
    return part.model_dump_json(ensure_ascii=True).encode() + b"\n"


def _server_timing(group: ScoredGroup) -> str:
    return ", ".join(f"{name};dur={value}" for name, value in group.timings_ms.model_dump().items())
