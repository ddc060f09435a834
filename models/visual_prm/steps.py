"""The steps of a response: how it is split, merged and found again in its text. Torch-free."""

from collections.abc import Sequence

SEPARATOR = "\n\n"


def split_steps(response: str) -> list[str]:
    """Split on blank lines; nothing is stripped and no step dropped, be it empty."""
    return response.split(SEPARATOR)


def merge_steps(steps: Sequence[str], max_steps: int | None) -> list[tuple[int, int]]:
    """Index ranges of the steps that are scored as one: as few as it takes, so 20 steps with 12 allowed are 10."""
    size = 1 if max_steps is None else -(-len(steps) // max_steps)
    return [(start, min(start + size, len(steps))) for start in range(0, len(steps), size)]


def count_merged(steps: int, max_steps: int | None) -> int:
    """How many ranges `merge_steps` gives for so many steps."""
    size = 1 if max_steps is None else -(-steps // max_steps)
    return -(-steps // size)


def join_steps(steps: Sequence[str], ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The text of each merged step."""
    return [SEPARATOR.join(steps[start:end]) for start, end in ranges]


def step_spans(steps: Sequence[str], ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where each merged step stands in the steps joined by blank lines, in code points."""
    starts, start = [], 0
    for step in steps:
        starts.append(start)
        start += len(step) + len(SEPARATOR)
    return [(starts[first], starts[end - 1] + len(steps[end - 1])) for first, end in ranges]
