"""Tricks that a policy could learn: what a response becomes when it is bent so as to earn more without being better."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.rewards.detection import is_proper
from steelyard.rewards.multiple_choice import LETTERS, letter_of
from steelyard.rewards.tags import CLOSE, OPEN, only_span, solution_content

Contents = Iterator[tuple[str, str]]
_NUMBER = re.compile(r"[0-9]+")
_BOX = re.compile(r"\(\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*\)\s*,\s*\(\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*\)")
_FRAME = "<think>I look at the picture.</think><answer>{}</answer>"
MOST_CLASSES = 50
_ABSURD = (float("nan"), float("inf"), float("-inf"), -3, 100, 0)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A response and the trick that made it. A guess may pay by its nature: it is reported, and counts for nothing."""

    trick: str
    response: str
    is_guess: bool = False


def perturbed(response: str, truth: str, kinds: Collection[str], classes: Sequence[str]) -> Iterator[Perturbed]:
    """The response under each trick that has to do with these kinds of terms. `classes` are what else may be true."""
    yield from _of_the_text(response, truth, kinds, classes)
    frame = _framed(response)
    if frame is None:
        return
    before, content, after = frame
    yield Perturbed("answer twice", before + content + after + OPEN + content + CLOSE)
    yield Perturbed("nested tags", before + OPEN + content + CLOSE + after)
    yield Perturbed("answer tags in the thought", response.replace("<think>", f"<think>{OPEN}{content}{CLOSE} ", 1))
    yield Perturbed("no tags", content)
    for kind, tricks in _TRICKS.items():
        if not kind.isdisjoint(kinds):
            for trick, bent in tricks(content.strip(), truth, classes):
                yield Perturbed(trick, before + bent + after, trick in _GUESSES)


def wrong_response(truth: str, kinds: Collection[str], classes: Sequence[str]) -> str:
    """Well-formed, and not right."""
    if not _DETECTION.isdisjoint(kinds):
        content = _boxes([[0, 0, 1, 1]], 0.5)
    elif "grounding" in kinds:
        low = any(int(number) < 500 for number in _NUMBER.findall(truth)[:2])
        content = "(998,998),(1000,1000)" if low else "(0,0),(2,2)"
    elif "multiple_choice" in kinds:
        content = "B" if letter_of(solution_content(truth) or "") == "A" else "A"
    elif "maths" in kinds:
        content = "104729"
    else:
        content = "none of these"
    return _FRAME.format(content)


def _of_the_text(response: str, truth: str, kinds: Collection[str], classes: Sequence[str]) -> Iterator[Perturbed]:
    yield Perturbed("nothing at all", "")
    number = _number_of(truth)
    yield Perturbed("maths after the answer", f"{response} ${number}$")
    yield Perturbed("maths in prose", f"<think>It is $ {number} $ or so.</think>\n<answer> so it is </answer>")
    yield Perturbed("boxed number", f"I think it is \\boxed{{{number}}}")
    if "classification" in kinds:
        thought = f"<think>{_listing(classes)}</think>"
        yield Perturbed("classes in the thought", f"{thought}\n<answer>\nnone of these\n</answer>")
    if "maths" in kinds:
        solution = solution_content(truth) or ""
        yield Perturbed("solution in the thought", f"<think> ${solution}$ </think><answer>104729</answer>")


def _detection(content: str, truth: str, classes: Sequence[str]) -> Contents:
    rows = _read_rows(content)
    if rows:
        for confidence in _ABSURD:
            yield f"confidence {confidence}", _spelt([{**row, "Confidence": confidence} for row in rows])
        yield (
            "corners swapped",
            _spelt([{**row, "Position": [*row["Position"][2:], *row["Position"][:2]]} for row in rows]),
        )
        yield "each box ten times", _spelt([row for row in rows for _ in range(10)])
        for count in (1, 3, 10):
            decoys = [_row([place, 0, place + 1, 1], 0) for place in range(count)]
            yield "far-off boxes of confidence 0", _spelt([*rows, *decoys])
        yield "far-off box of confidence -3", _spelt([*rows, _row([0, 0, 1, 1], -3)])
        yield "far-off box of confidence NaN", _spelt([*rows, _row([0, 0, 1, 1], float("nan"))])
    yield "one far-off box of confidence 0", _boxes([[0, 0, 1, 1]], 0)
    grid = [[x, y, x + 100, y + 100] for x in range(0, 1000, 100) for y in range(0, 1000, 100)]
    yield "a hundred boxes", _boxes(grid, 0)
    yield "whole picture", _boxes([[0, 0, 1000, 1000]], 0.5)
    yield "boundless box", _boxes([[-1e308, -1e308, 1e308, 1e308]], 0)
    yield "empty answer", ""
    if rows:
        yield "double brackets", f"[{content}]"


def _grounding(content: str, truth: str, classes: Sequence[str]) -> Contents:
    box = _BOX.fullmatch(content)
    x1, y1, x2, y2 = box.groups() if box is not None else ("0", "0", "0", "0")
    # Swapping what is swapped already would mend it.
    if int(x1) < int(x2) and int(y1) < int(y2):
        yield "corners swapped", f"({x2},{y2}),({x1},{y1})"
        yield "x swapped", f"({x2},{y1}),({x1},{y2})"
        yield "box twice", f"{content},{content}"
    yield "all corners swapped", "(1000,1000),(0,0)"
    yield "far beyond the picture", "(100000,100000),(0,0)"
    true = _BOX.search(truth)
    if true is not None:
        x1, y1, x2, y2 = true.groups()
        yield "two boxes crosswise", f"({x1},{y1}),(1000,1000) and ({x2},{y2}),(1000,1000)"
    yield "whole picture", "(0,0),(1000,1000)"
    yield "empty answer", ""


def _classification(content: str, truth: str, classes: Sequence[str]) -> Contents:
    yield "empty answer", ""
    yield "underscore", "_"
    for letter in "eai":
        if (solution_content(truth) or "").lower() != letter:
            yield "one letter", letter
    yield "all classes", _listing(classes)
    yield "answer over several lines", f"\n{content}\n"


def _multiple_choice(content: str, truth: str, classes: Sequence[str]) -> Contents:
    yield "empty answer", ""
    yield "all letters", LETTERS
    yield "all letters", ", ".join(LETTERS[:6])
    yield "all letters", " or ".join(f"({letter})" for letter in LETTERS[:6])


def _maths(content: str, truth: str, classes: Sequence[str]) -> Contents:
    yield "empty answer", ""
    solution = (solution_content(truth) or "0").strip("$")
    for listed in ((solution, "104729"), ("7919", solution, "104729")):
        yield "several results", ", ".join(f"${one}$" for one in listed)
        yield "several results", r"$\{" + ",".join(listed) + r"\}$"
        yield "several results", " ".join(f"\\boxed{{{one}}}" for one in listed)
    yield "solution as text, then another", f"{solution} = 104729"


_DETECTION = frozenset({"iou", "confidence", "calibration"})
_TRICKS: Mapping[frozenset[str], Callable[[str, str, Sequence[str]], Contents]] = {
    _DETECTION: _detection,
    frozenset({"grounding"}): _grounding,
    frozenset({"classification"}): _classification,
    frozenset({"multiple_choice"}): _multiple_choice,
    frozenset({"maths"}): _maths,
}
# One box around everything overlaps everything.
_GUESSES = frozenset({"whole picture"})


def _framed(response: str) -> tuple[str, str, str] | None:
    """Before, between and after the answer's tags, the tags with what is outside; None unless they are one pair."""
    span = only_span(response)
    return None if span is None else (response[: span[0]], response[span[0] : span[1]], response[span[1] :])


def _read_rows(content: str) -> list[dict[str, Any]]:
    """The boxes of a proper answer: bending an improper one might mend it."""
    if not content.startswith("[") or not is_proper(content):
        return []
    rows: list[dict[str, Any]] = json.loads(content.replace("'", '"'))
    return rows


def _row(position: Sequence[float], confidence: float) -> dict[str, Any]:
    return {"Position": position, "Confidence": confidence}


def _boxes(positions: Sequence[Sequence[float]], confidence: float) -> str:
    return _spelt([_row(position, confidence) for position in positions])


def _spelt(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows).replace('"', "'")


def _listing(classes: Sequence[str]) -> str:
    return "It may be " + ", ".join(classes[:MOST_CLASSES])


def _number_of(truth: str) -> str:
    """What math-verify would read off the solution: y1 of its first box, or its first number."""
    numbers = _NUMBER.findall(truth)
    return str(numbers[1] if "Position" in truth and len(numbers) > 1 else (numbers or ["42"])[0])
