"""Which of a server's models a caller means."""

from collections.abc import Sequence

from steelyard.errors import InvalidCall
from steelyard.schema import ServedModel


def meant(models: Sequence[ServedModel], name: str | None) -> list[ServedModel]:
    """Those of that name; without one the only model, else those that score steps. It is clear when there is one."""
    if name is not None:
        return [model for model in models if model.name == name]
    return list(models) if len(models) == 1 else [model for model in models if model.kind == "steps"]


def choose(models: Sequence[ServedModel], name: str | None) -> ServedModel:
    """For the command's `--model`. Raises InvalidCall."""
    found = meant(models, name)
    if len(found) != 1:
        reason = "several could be meant" if name is None else f"there is no {name!r}"
        names = ", ".join(f"{model.name} ({model.kind})" for model in models)
        raise InvalidCall(f"--model: {reason}; the server has {names or 'none'}")
    return found[0]
