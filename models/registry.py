"""The families of reward models: how one is recognised, and where its parts live. Torch-free.

The parts are named by strings and imported when asked for: a gateway never imports a network.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from models.checkpoint import read_json


@dataclass(frozen=True, slots=True)
class Family:
    """`kind` says what is scored: each step of a candidate, or its outcome."""

    name: str
    kind: Literal["steps", "outcome"]

    def part(self, name: Literal["spec", "prompt", "network"]) -> ModuleType:
        return import_module(f"models.{self.name}.{name}")


_BY_ARCHITECTURE = {"InternVLRewardModel": Family("visual_prm", "steps")}


def identify(directory: Path) -> Family:
    """The family of the checkpoint in a folder, by its `config.json`, never by its name.

    Raises CheckpointError for an architecture that is not served.
    """
    config = read_json(directory / "config.json")
    architectures = config.values.get("architectures")
    found = architectures[0] if isinstance(architectures, list) and architectures else None
    family = _BY_ARCHITECTURE.get(found) if isinstance(found, str) else None
    if family is None:
        raise config.error("architectures", "one of " + ", ".join(_BY_ARCHITECTURE), architectures)
    return family
