"""What is scored: one question, its pictures and its candidates."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from steelyard.schema import ControlTokens

# A text, which a process reward model splits on blank lines, or the list of its steps.
Candidate = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What besides the texts and pictures decides a score."""

    max_tiles: int | None = None
    control_tokens: ControlTokens = "parse"


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates for one question, scored in one call."""

    id: str
    question: str
    images: tuple[Path, ...]
    candidates: tuple[Candidate, ...]


def text_of(candidate: Candidate) -> str:
    """The candidate as one text, as an outcome reward model reads it."""
    return candidate if isinstance(candidate, str) else "\n\n".join(candidate)


def hash_inputs(groups: Sequence[Group], settings: Settings) -> dict[str, str]:
    """Group id → hash of all that decides its scores besides the model, the pictures' bytes included."""
    paths = {path for group in groups for path in group.images}
    pictures = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return {group.id: _hash(group, [pictures[path] for path in group.images], settings) for group in groups}


def _hash(group: Group, pictures: Sequence[str], settings: Settings) -> str:
    inputs = [group.question, pictures, group.candidates, asdict(settings)]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]
