"""VL-RewardBench, RewardBench and RM-Bench: their files as comparisons, each with the groups that it counts for."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from evaluation.errors import EvaluationError
from evaluation.groups import Group
from evaluation.reading import find_pictures, name_items, read_items

# In the image's path, as the reference's script tells the groups apart; looked for in this order.
_VL_GROUPS = {
    "Reasoning": ("reasoning_tasks",),
    "General": ("vlfeedback", "wildvision"),
    "Hallucination": ("povid", "rlhf-v", "rlaif-v"),
}
_REWARDBENCH = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
_REWARDBENCH_GROUP = {subset: group for group, subsets in _REWARDBENCH.items() for subset in subsets}
_DOMAINS = {"chat": "Chat", "math": "Math", "code": "Code", "safety-refuse": "Safety", "safety-response": "Safety"}

Three = Annotated[list[str], Field(min_length=3, max_length=3)]


class VLRewardBenchItem(BaseModel):
    """Two answers about a picture; `human_ranking` is [0, 1] when the first is preferred, else [1, 0]."""

    id: str | int | None = None
    query: str
    response: Annotated[list[str], Field(min_length=2, max_length=2)]
    human_ranking: tuple[Literal[0], Literal[1]] | tuple[Literal[1], Literal[0]]
    image_path: str
    group: Literal["General", "Hallucination", "Reasoning"] | None = None


class RewardBenchItem(BaseModel):
    """A prompt, the chosen and the rejected answer; `subset` tells the group."""

    prompt: str
    chosen: str
    rejected: str
    subset: str


class RMBenchItem(BaseModel):
    """Three chosen and three rejected answers: concise, detailed, detailed with Markdown."""

    id: str | int | None = None
    prompt: str
    chosen: Three
    rejected: Three
    domain: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is scored, which of the candidates are the better ones, and what it counts for."""

    group: str
    subset: str
    scored: Group
    better: tuple[int, ...]


def read_vl_rewardbench(path: Path, images: Path, seed: int) -> list[Comparison]:
    """The two answers in a drawn order, which a tie must not depend on. Raises EvaluationError."""
    found = []
    for id, (place, item) in name_items(read_items(path, VLRewardBenchItem)).items():
        pictures = find_pictures(place, "image_path", item.image_path, images)
        order = random.Random(f"{seed} {id}").sample((0, 1), 2)
        candidates = tuple(item.response[index] for index in order)
        better = (order.index(item.human_ranking[0]),)
        group = item.group or _vl_group(place, item.image_path)
        found.append(Comparison(group, group, Group(id, item.query, pictures, candidates), better))
    return found


def read_rewardbench(path: Path, images: Path, seed: int) -> list[Comparison]:
    """The chosen answer first. Raises EvaluationError."""
    found = []
    for position, (place, item) in enumerate(read_items(path, RewardBenchItem)):
        group = _known(_REWARDBENCH_GROUP, item.subset, f"{place}: subset")
        scored = Group(str(position), item.prompt, (), (item.chosen, item.rejected))
        found.append(Comparison(group, item.subset, scored, (0,)))
    return found


def read_rm_bench(path: Path, images: Path, seed: int) -> list[Comparison]:
    """The three chosen answers, then the three rejected ones. Raises EvaluationError."""
    found = []
    for position, (place, item) in enumerate(read_items(path, RMBenchItem)):
        group = _known(_DOMAINS, item.domain, f"{place}: domain")
        scored = Group(str(position), item.prompt, (), (*item.chosen, *item.rejected))
        found.append(Comparison(group, item.domain, scored, (0, 1, 2)))
    return found


FORMATS: Mapping[str, Callable[[Path, Path, int], list[Comparison]]] = {
    "vl_rewardbench": read_vl_rewardbench,
    "rewardbench": read_rewardbench,
    "rm_bench": read_rm_bench,
}


def _vl_group(place: str, image_path: str) -> str:
    for group, names in _VL_GROUPS.items():
        if any(name in image_path.casefold() for name in names):
            return group
    known = ", ".join(name for names in _VL_GROUPS.values() for name in names)
    raise EvaluationError(f"{place}: image_path: {image_path!r} names none of {known}; or give the item a `group`")


def _known(groups: Mapping[str, str], name: str, place: str) -> str:
    if name not in groups:
        raise EvaluationError(f"{place}: {name!r} is none of {', '.join(groups)}")
    return groups[name]
