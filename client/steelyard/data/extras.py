"""What `pip install 'steelyard[data]'` and `[ray]` bring, imported where it is used."""

import importlib
from typing import Any

from steelyard.errors import InvalidCall


def arrow(module: str = "") -> Any:  # noqa: ANN401
    """pyarrow, which is untyped, or a module of it. Raises InvalidCall that says how to install it."""
    return _extra(f"pyarrow.{module}" if module else "pyarrow", "Parquet and Arrow", "data")


def ray_data() -> Any:  # noqa: ANN401
    """Likewise Ray."""
    _extra("ray.data", "--engine ray", "ray")
    return importlib.import_module("ray")


def _extra(module: str, what: str, extra: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InvalidCall(f"{what} need {module.partition('.')[0]}: pip install 'steelyard[{extra}]'") from None
