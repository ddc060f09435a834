"""The families of reward models, and how a checkpoint's is recognised. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.checkpoint import CheckpointError, read_json, tensor_names
from models.sequence_classifier.spec import SUFFIX


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is its folder in `models/`; `kind` says what is scored: each step of a candidate, or its outcome."""

    name: str
    kind: Literal["steps", "outcome"]


_IXC_REWARD = Family("ixc_reward", "outcome")
_CLASSIFIER = Family("sequence_classifier", "outcome")
_BY_ARCHITECTURE = {
    "InternVLRewardModel": Family("visual_prm", "steps"),
    "InternLMXComposer2ForCausalLM": _IXC_REWARD,
}


def identify(directory: Path) -> Family:
    """The family of the checkpoint in a folder, by its `config.json` and its tensors, never by its name.

    Raises CheckpointError for an architecture that is not served, and for a chat model that shares one.
    """
    config = read_json(directory / "config.json")
    architectures = config.values.get("architectures")
    found = architectures[0] if isinstance(architectures, list) and architectures else None
    family = _named(found) if isinstance(found, str) else None
    if family is None:
        known = ", ".join([*_BY_ARCHITECTURE, f"…{SUFFIX}"])
        raise config.error("architectures", f"one of {known}", architectures)
    if family is _IXC_REWARD:
        _check_reward(directory)
    return family


def _named(architecture: str) -> Family | None:
    return _CLASSIFIER if architecture.endswith(SUFFIX) else _BY_ARCHITECTURE.get(architecture)


def _check_reward(directory: Path) -> None:
    """XComposer's chat models have the reward model's configuration: only the head tells them apart."""
    names = tensor_names(directory)
    if "score.weight" not in names or "output.weight" in names:
        raise CheckpointError(f"{directory}: not a reward model: it needs score.weight and no output.weight")
