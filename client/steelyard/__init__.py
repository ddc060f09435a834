"""Client of the Steelyard reward-model server."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steelyard import errors, schema
    from steelyard.client import AsyncClient, Client
    from steelyard.errors import SteelyardError
    from steelyard.retry import Retry

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Retry", "SteelyardError", "__version__", "errors", "schema"]

# Imported when asked for: the server takes the schema from here and must not pay for an HTTP client.
_HOMES = {"AsyncClient": "client", "Client": "client", "Retry": "retry", "SteelyardError": "errors"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"steelyard.{_HOMES[name]}"), name)
    if name in ("errors", "schema"):
        return importlib.import_module(f"steelyard.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
