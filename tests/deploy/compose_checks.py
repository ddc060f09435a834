"""What is wrong with a compose project, in words."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema

from tests.deploy.files import ROOT, Document
from tests.deploy.promises import drain_s, is_variable, unknown_options

OURS = ("gateway", "worker")
_VERSION = re.compile(r":v?\d+\.\d+\.\d+(-[a-z]+)?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def problems(project: Document) -> list[str]:
    return [*_against_the_schema(project), *_in_services(project), *_in_ours(project), *_in_redis(project)]


def _against_the_schema(project: Document) -> Iterator[str]:
    """The compose specification's own schema, as check-jsonschema carries it."""
    text = (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8")
    validator = jsonschema.Draft202012Validator(json.loads(text))
    for error in validator.iter_errors(project):
        yield f"{error.json_path}: {error.message}"


def _in_services(project: Document) -> Iterator[str]:
    volumes, networks = project.get("volumes", {}), {"default": None} | project.get("networks", {})
    for name, service in project["services"].items():
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: port {port} is open to more than this machine"
        if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: its root is writable, or it keeps capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: it may gain privileges"
        if "build" not in service and not _VERSION.search(service["image"]):
            yield f"{name}: image {service['image']} is not pinned"
        for source in (mount.partition(":")[0] for mount in service.get("volumes", [])):
            if not (ROOT / source).exists() if source.startswith(".") else source not in volumes:
                yield f"{name}: there is no volume {source}"
        for network in service.get("networks", []):
            if network not in networks:
                yield f"{name}: there is no network {network}"
        for other in service.get("depends_on", []):
            if other not in project["services"]:
                yield f"{name}: there is no service {other}"
        for variable, value in _environment(service).items():
            if not is_variable(variable):
                yield f"{name}: {variable} is no setting"
            if re.search(r"KEY|PASSWORD|SECRET|TOKEN$", variable) and value and not value.startswith("$"):
                yield f"{name}: {variable} is written into the file"


def _in_ours(project: Document) -> Iterator[str]:
    for name in OURS:
        service = project["services"][name]
        grace = _seconds(service.get("stop_grace_period", "10s"))
        if grace <= drain_s(_environment(service)):
            yield f"{name}: it is killed after {grace} s, while it drains"
        for option in unknown_options(_command(service)):
            yield f"{name}: there is no option --{option}"
        if _environment(service).get("STEELYARD_QUEUE") != "redis://redis:6379/0":
            yield f"{name}: it does not read the queue of this project"
        if "redis" not in service.get("depends_on", {}):
            yield f"{name}: it does not wait for Redis"
    gateway, worker = (project["services"][name] for name in OURS)
    if "container_name" in worker or "ports" in worker:
        yield "worker: a name or a port that only one can have keeps it from being scaled"
    if worker.get("entrypoint") != ["python", "-m", "service.worker"]:
        yield "worker: its entry point is not the worker's"
    if worker.get("healthcheck", {}).get("test") != ["CMD", *worker.get("entrypoint", []), "--check"]:
        yield "worker: its health check is not the worker's"
    if worker["image"] != gateway["image"]:
        yield "worker: another image than the gateway's"
    for variable in ("STEELYARD_MODEL", "STEELYARD_QUEUE"):
        if _environment(worker).get(variable) != _environment(gateway).get(variable):
            yield f"worker: another {variable} than the gateway's"


def _in_redis(project: Document) -> Iterator[str]:
    redis = project["services"]["redis"]
    options = redis_options(redis)
    for option, wanted in {"appendonly": "yes", "maxmemory-policy": "noeviction"}.items():
        if options.get(option) != wanted:
            yield f"redis: {option} is not {wanted}"
    if "maxmemory" not in options:
        yield "redis: without a bound to its memory it never refuses"
    if not any(mount.endswith(":/data") for mount in redis.get("volumes", [])):
        yield "redis: what it writes is gone with it"
    if "ports" in redis:
        yield "redis: its port is published, and it has no password"
    if any(not project["networks"][network].get("internal") for network in redis.get("networks", ["default"])):
        yield "redis: its network is not internal"
    if "healthcheck" not in redis:
        yield "redis: nobody knows when it is there"


def redis_options(redis: Document) -> dict[str, str]:
    words = [str(word) for word in redis["command"][1:]]
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _command(service: Document) -> list[str]:
    return [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]


def _environment(service: Document) -> dict[str, Any]:
    return dict(service.get("environment") or {})


def _seconds(duration: str) -> int:
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))
