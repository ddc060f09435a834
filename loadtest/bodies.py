"""Requests as bytes, written once: what is left to do for each is to put its own number in."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.workload import Group
from steelyard.schema import Priority, ScoreStepsRequest

# Takes the place of the number, so that every request of a template is as long as the next.
_MARK = "@0123456789abcdef@"
PRIORITIES: tuple[Priority, ...] = ("online", "train", "batch")


@dataclass(frozen=True, slots=True)
class Bodies:
    """For each priority some groups, each as a whole HTTP request with a mark where its number goes."""

    templates: Mapping[Priority, Sequence[bytes]]
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    def request(self, priority: Priority, number: int) -> bytes:
        """No two of a run, or of two runs, ask the same question."""
        templates = self.templates[priority]
        own = f"{self.run}{number:0{len(_MARK) - len(self.run)}d}"
        return templates[number % len(templates)].replace(_MARK.encode(), own.encode())


def prepare(
    groups: Sequence[Group],
    pictures: Mapping[bytes, str],
    *,
    host: str,
    api_key: str | None = None,
    model: str | None = None,
    deadline_ms: int | None = None,
) -> Bodies:
    """`pictures` are the ids under which the server keeps them: bytes travel once."""
    templates: dict[Priority, list[bytes]] = {}
    for priority in PRIORITIES:
        for group in groups:
            request = ScoreStepsRequest(
                question=f"{_MARK} {group.question}",
                images=[pictures[picture] for picture in group.pictures],
                candidates=[list(steps) for steps in group.candidates],
                model=model,
                priority=priority,
                deadline_ms=deadline_ms,
            )
            body = request.model_dump_json(exclude_none=True).encode()
            templates.setdefault(priority, []).append(_head(host, len(body), api_key) + body)
    return Bodies(templates)


def _head(host: str, length: int, api_key: str | None) -> bytes:
    lines = [
        "POST /score_steps HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *([] if api_key is None else [f"Authorization: Bearer {api_key}"]),
    ]
    return "\r\n".join([*lines, "", ""]).encode()
