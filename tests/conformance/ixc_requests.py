"""IXC-2.5-Reward's golden cases as requests: every form of the wire that can say the same."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.ixc_reward.prompt import MARKER

Case = Mapping[str, Any]
Turns = Sequence[Mapping[str, str]]


def conversations_of(case: Case) -> list[tuple[Turns, Sequence[str]]]:
    """Each conversation with the names of its pictures."""
    if case["type"] == "score":
        return [(case["conversation"], case["images"])]
    if case["type"] == "compare":
        return [(case[f"conversation{side}"], case[f"images{side}"]) for side in (1, 2)]
    # The reference's zip drops the longer list's tail.
    return list(zip(case["conversations"], case["images"], strict=False))


def together(conversations: Sequence[tuple[Turns, Sequence[str]]], folder: Path) -> dict[str, Any]:
    """Whole conversations in one request."""
    return {
        "conversations": [
            {"messages": turns, "images": [data_url(folder / name) for name in names]} for turns, names in conversations
        ]
    }


def forms(turns: Turns, names: Sequence[str], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The other ways to ask for the score of one conversation, by name."""
    images = [data_url(folder / name) for name in names]
    *before, last = turns or [{"role": "none", "content": ""}]
    if last["role"] == "assistant" and MARKER not in last["content"]:
        yield "as a candidate", {"messages": before, "candidates": [last["content"]], "images": images}
    markers = sum(turn["content"].count(MARKER) for turn in turns)
    if markers and markers == len(names):
        waiting = iter(images)
        parts = [{"role": turn["role"], "content": _parts(turn["content"], waiting)} for turn in turns]
        yield "in parts", {"conversations": [{"messages": parts}]}


def data_url(path: Path) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(path.read_bytes()).decode()


def _parts(content: str, images: Iterator[str]) -> list[dict[str, Any]]:
    first, *rest = content.split(MARKER)
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
    for text in rest:
        parts += [{"type": "image_url", "image_url": {"url": next(images)}}, {"type": "text", "text": text}]
    return parts
