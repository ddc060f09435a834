"""The gateway's web application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import steelyard
from service import admin, errors
from service.compat.routes import BODIES
from service.compat.routes import router as compatible_router
from service.errors import InvalidRequest, ServiceError, UnknownRoute, WrongMethod
from service.gateway import Gateway
from service.jobs.routes import router as jobs_router
from service.middleware import EveryRequest
from service.rank_routes import router as rank_router
from service.routes import router
from service.settings import Settings
from service.verify.routes import router as verify_router
from steelyard.rank_schema import RankRequest
from steelyard.schema import ReloadRequest, ScoreOutcomesRequest, ScoreStepsRequest
from steelyard.verify_schema import VerifyRequest


def create_app(
    settings: Settings,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[], None] = lambda: None,
    engine_module: str = "service.engine_process",
    evaluation_module: str = "service.verify.evaluation",
) -> FastAPI:
    """The app; its lifespan starts and stops the engine. `app.state.gateway` is the Gateway."""
    gateway = Gateway(settings, engine_module, evaluation_module)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.start(on_ready, on_failure)
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="Steelyard",
        version=steelyard.__version__,
        summary="Reward models over HTTP: score every step and every answer.",
        description=_error_table(),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.include_router(router)
    app.include_router(rank_router)
    app.include_router(verify_router)
    app.include_router(jobs_router)
    app.include_router(admin.router)
    app.include_router(compatible_router)
    app.add_middleware(EveryRequest, metrics=gateway.metrics, max_body_bytes=settings.max_body_bytes)
    app.add_exception_handler(ServiceError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    _describe_bodies(app)
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error.body(request.state.request_id)
    return JSONResponse(body.model_dump(), error.status, headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """What the framework itself refuses, in our words."""
    assert isinstance(error, HTTPException)
    known: dict[int, ServiceError] = {
        404: UnknownRoute(f"there is no {request.url.path} here; /docs lists what there is"),
        405: WrongMethod(f"{request.url.path} does not take {request.method}"),
    }
    response = await _answer_error(request, known.get(error.status_code, InvalidRequest(str(error.detail))))
    response.headers.update(error.headers or {})
    return response


def _error_table() -> str:
    """The tree of `service/errors.py` for the reader of `/docs`."""
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    return f"Every refusal is an error object; nothing was scored then.\n\n```\n{tree}```"


def _describe_bodies(app: FastAPI) -> None:
    """Bodies are parsed from bytes by the schema itself, so their description is put in by hand."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        ours = (ScoreStepsRequest, ScoreOutcomesRequest, RankRequest, VerifyRequest, ReloadRequest)
        bodies: tuple[type[BaseModel], ...] = (*ours, *BODIES)
        for request in bodies:
            schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {}) | {request.__name__: schema}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
