"""The families of reward models, and how a checkpoint's is recognised. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.checkpoint import read_json


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is its folder in `models/`; `kind` says what is scored: each step of a candidate, or its outcome."""

    name: str
    kind: Literal["steps", "outcome"]


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
