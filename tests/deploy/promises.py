"""What the server promises to those who deploy it, as the code itself says it."""

import re

from fastapi.routing import APIRoute

from service.routes import router
from service.settings import Settings

# What the worker takes that is not a setting.
OF_THE_WORKER = {"check"}
# What a gateway exports only where its queue is in Redis.
OF_THE_REDIS_QUEUE = {"steelyard_queue_tokens"}
_OPTION = re.compile(r"--([a-z-]+)")


def is_variable(name: str) -> bool:
    """Whether it may stand in the environment: `STEELYARD_*` only if it is a setting."""
    return not name.startswith("STEELYARD_") or name.removeprefix("STEELYARD_").lower() in Settings.model_fields


def unknown_options(command: list[str]) -> list[str]:
    known = Settings.model_fields.keys() | OF_THE_WORKER
    given = [match[1] for word in command if (match := _OPTION.match(word))]
    return [option for option in given if option.replace("-", "_") not in known]


def answers_get(path: str) -> bool:
    return any(
        isinstance(route, APIRoute) and route.path == path and "GET" in (route.methods or ()) for route in router.routes
    )


def drain_s(environment: dict[str, str]) -> int:
    """Seconds that a process with these variables takes to stop."""
    return int(environment.get("STEELYARD_DRAIN_S", Settings.model_fields["drain_s"].default))
