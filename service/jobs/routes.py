"""The routes of jobs: thin, as all of them."""

import asyncio
import hashlib
import re
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.body import describe, parse
from service.errors import InvalidRequest, Unavailable, UnknownJob
from service.gateway import Gateway
from service.jobs.lines import read_lines
from service.jobs.pages import described, read_page
from service.jobs.store import NO_JOB, JobState, JobStore
from service.routes import ERRORS, NDJSON, Caller, gateway_of
from steelyard.schema import BatchJob, JobFromUpload, StoredUpload

_JSON = "application/json"
_LONGEST_WAIT_S = 30.0
_MOST_ROWS = 10_000
_NOT_DURABLE = (
    "jobs need a Redis that keeps its data: this one has no append-only file (appendonly no), and its restart would "
    "lose them"
)

router = APIRouter()


async def job_of(job: str) -> str:
    """The id in the path. Raises UnknownJob for what no id looks like."""
    if not re.fullmatch("[0-9a-f]{32}", job):
        raise UnknownJob(NO_JOB)
    return job


JobId = Annotated[str, Depends(job_of)]


class _Options(BaseModel):
    """What stands after the question mark."""

    model_config = ConfigDict(extra="forbid")


class _Create(_Options):
    open: bool = False


class _Append(_Options):
    first: int = Field(ge=0, le=2**53)
    close: bool = False


class _Page(_Options):
    cursor: int = Field(0, ge=0, le=2**53)
    limit: int = Field(1000, ge=1, le=_MOST_ROWS)
    wait: float = Field(0.0, ge=0, le=_LONGEST_WAIT_S)


Options = TypeVar("Options", bound=_Options)


def _parameters(options: type[_Options]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": field.is_required(), "schema": schema}
        for (name, field), schema in zip(
            options.model_fields.items(), options.model_json_schema()["properties"].values(), strict=True
        )
    ]


def _openapi(options: type[_Options], *media_types: str) -> dict[str, Any]:
    """Queries and bodies are read by hand, so their description is too."""
    content = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {"parameters": _parameters(options)} | ({"requestBody": {"content": content}} if content else {})


@router.put(
    "/uploads",
    response_model=StoredUpload,
    responses=ERRORS,
    openapi_extra=_openapi(_Options, NDJSON),
    summary="Store the groups of a job under the hash of their bytes",
)
async def put_upload(request: Request, name: Caller) -> StoredUpload:
    gateway = gateway_of(request)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as content:
        upload = "sha256:" + (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
        expires_at = await (await _safe_store(gateway)).put_upload(upload, name, content)
    return StoredUpload(id=upload, bytes=len(content), expires_at=round(expires_at, 3))


@router.post(
    "/jobs",
    response_model=BatchJob,
    status_code=202,
    responses=ERRORS,
    openapi_extra=_openapi(_Create, NDJSON, _JSON),
    summary="Hand over groups, a line each, to be scored when nothing more urgent waits",
)
async def create_job(request: Request, name: Caller) -> BatchJob:
    gateway, options = gateway_of(request), _options(_Create, request)
    store = await _safe_store(gateway)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == _JSON:
            body = await store.upload((await parse(JobFromUpload, body)).upload, name)
        elif media_type != NDJSON:
            raise InvalidRequest(f"Content-Type: {NDJSON} for groups, or {_JSON} for an upload")
        lines = await asyncio.to_thread(read_lines, body, gateway.settings)
        state = await store.create(name, lines, close=not options.open)
    return _begun(gateway, state)


@router.post(
    "/jobs/{job}/groups",
    response_model=BatchJob,
    status_code=202,
    responses=ERRORS,
    openapi_extra=_openapi(_Append, NDJSON),
    summary="Hand over more groups of an open job; what it has already is passed over",
)
async def append_groups(job: JobId, request: Request, name: Caller) -> BatchJob:
    gateway, options = gateway_of(request), _options(_Append, request)
    store = await _safe_store(gateway)
    async with gateway.bodies.read(request, gateway.settings.max_body_bytes) as body:
        await store.find(job, name)
        lines = await asyncio.to_thread(read_lines, body, gateway.settings)
        state = await store.append(job, name, lines, options.first, close=options.close)
    return _begun(gateway, state)


@router.get("/jobs/{job}", response_model=BatchJob, responses=ERRORS, summary="How far a job is")
async def find_job(job: JobId, request: Request, name: Caller) -> BatchJob:
    store = gateway_of(request).jobs
    return described(await store.find(job, name), durable=store.shared)


@router.get(
    "/jobs/{job}/results",
    response_model=None,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}, **ERRORS},
    openapi_extra=_openapi(_Page),
    summary="A job's rows in the order in which they were finished, from a cursor on",
)
async def read_results(job: JobId, request: Request, name: Caller) -> Response:
    options = _options(_Page, request)
    store = gateway_of(request).jobs
    page = await read_page(store, job, name, options.cursor, options.limit, options.wait)
    return Response(page, media_type=NDJSON)


@router.delete(
    "/jobs/{job}", response_model=BatchJob, responses=ERRORS, summary="Start no more of a job; its rows stay"
)
async def cancel_job(job: JobId, request: Request, name: Caller) -> BatchJob:
    store = gateway_of(request).jobs
    return described(await store.cancel(job, name), durable=store.shared)


async def _safe_store(gateway: Gateway) -> JobStore:
    """Raises Unavailable for a shared store that would lose what it is given."""
    store = gateway.jobs
    if store.shared and not await store.is_durable():
        raise Unavailable(_NOT_DURABLE)
    return store


def _begun(gateway: Gateway, state: JobState) -> BatchJob:
    if gateway.runner is not None:
        gateway.runner.wake()
    return described(state, durable=gateway.jobs.shared)


def _options(options: type[Options], request: Request) -> Options:
    try:
        return options.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None
