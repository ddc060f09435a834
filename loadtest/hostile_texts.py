"""Texts that a policy, or somebody worse, might send to be weighed: a seed gives always the same ones."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_MEGABYTE = 2**20 - 2**14
_TOKENS = (
    *("<think>", "</think>", "<answer>", "</answer>", "[", "]", "{", "}", "},", "'", '"', ",", ":", "\n", " ", "\0"),
    *("'Position'", "'Confidence'", "NaN", "Infinity", "-Infinity", "1e999", "-0", "true", "null", "No Objects", "_"),
    *("(1,2),(3,4)", "(0,0),(1000,1000)", "٣", "𝟗", "\u202e", "\u0301", "\ufeff", "🦑", "\r", "\u2028", "\\", "$"),
    *(r"\frac{1}{2}", r"\sqrt{2}", r"\boxed{60}", "^", "**", "!", "%", "0.5", "A", "(B)", "9" * 30, r"\infty", r"\pi"),
)
_NUMBERS = ("9" * 4_299, "9" * 4_301, "1" + "0" * 100_000, "0." + "0" * 5_000 + "1", "1e400", "-1e400", "0x10", "1_0")
_MATHS = (
    *("9**9**9", "9^{9^{9}}", "9^{9^{9^{9}}}", "10^{10^{10}}", "100000!", "170!!", "((((9!)!)!)!)!", "0^0", "1/0"),
    *(r"\frac{1}{0}", r"\sum_{k=1}^{10^{9}} k", r"\prod_{k=1}^{10^{7}} k", r"\int_0^1 x^{10^{9}} dx", "x^{100000}"),
    *(r"\binom{100000}{50000}", "(x+1)^{1000}", "(x+y+z)^{500}", r"\log(\log(\log(2)))", r"\sqrt[99999]{2}", "1=1=1"),
    *(r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{999}", r"\lim_{x\to 0}\frac{\sin x}{x}", "2^{2^{30}}", r"\infty-\infty"),
    *(r"e^{e^{e^{9}}}", r"\sin(10^{100})", r"\{1,2,3\}\cup\{4\}", "(1,2]", "x<3", r"50\%", "1,000,000", "i^i", "mod 7"),
    *("99999999999999999999^99999", r"\gcd(10^{50},6)", "123456789!", "x=" + "+".join(["x^2"] * 200)),
)
_TRUTHS: Mapping[str, Sequence[str]] = {
    "detection": (
        "<answer>[{'Position': [100, 100, 300, 300], 'Confidence': 1}]</answer>",
        "[{'Position': [1, 2, 30, 40], 'Confidence': 1}, {'Position': [500, 500, 900, 800], 'Confidence': 1}]",
        "<answer>No Objects</answer>",
    ),
    "grounding": ("<answer> (100,200),(300,400) </answer>", "(0,0),(1000,1000)"),
    "classification": ("<answer>BMW M3 Coupe 2012</answer>", "pink primrose"),
    "maths": (r"$\frac{1}{2}$", "7", "$x^2+1$", r"\boxed{60}", "$(x+1)^{3}$"),
    "multiple_choice": ("B", "<answer>(C)</answer>"),
}


@dataclass(frozen=True, slots=True)
class HostileItem:
    """A specification as it stands in a request, and a response and truth for it."""

    specification: str | dict[str, object]
    response: str
    truth: str


def hostile_items(seed: int, count: int) -> list[HostileItem]:
    """Over every shipped specification and some that are put together."""
    draw = random.Random(seed)
    kinds = tuple(_TRUTHS)
    return [_item(draw, kinds[index % len(kinds)]) for index in range(count)]


def _item(draw: random.Random, kind: str) -> HostileItem:
    truth = draw.choice(_TRUTHS[kind]) if draw.random() < 0.85 else _response(draw, kind)
    return HostileItem(_specification(draw, kind), _response(draw, kind), truth)


def _specification(draw: random.Random, kind: str) -> str | dict[str, object]:
    if draw.random() < 0.8:
        return kind + draw.choice(("", "-upstream"))
    term = {"detection": draw.choice(("iou", "confidence"))}.get(kind, kind)
    return {
        "terms": f"0.9 * {term} + 0.1 * format",
        "mode": draw.choice(("strict", "upstream")),
        "maths_first": draw.random() < 0.5,
        "length": {"characters": 2_000, "over": draw.choice(("zero", "penalty"))},
        "clip": {"low": -1, "high": 2},
    }


def _response(draw: random.Random, kind: str) -> str:
    write = draw.choices(
        (_mutated, _soup, _tagged, _maths, _deep, _numbers, _many, _long), (30, 20, 20, 12, 8, 5, 4, 1)
    )
    return write[0](draw, kind)


def _mutated(draw: random.Random, kind: str) -> str:
    """A good answer with some of it changed."""
    good = draw.choice(_TRUTHS[kind]).replace("<answer>", "").replace("</answer>", "")
    text = [*f"<think>a thought</think><answer>{good}</answer>"]
    for _ in range(draw.randrange(4)):
        place = draw.randrange(len(text))
        text[place : place + draw.randrange(3)] = draw.choice((draw.choice(_TOKENS), *text[:3], ""))
    return "".join(text)


def _soup(draw: random.Random, kind: str) -> str:
    return "".join(draw.choices(_TOKENS, k=draw.randrange(120)))


def _tagged(draw: random.Random, kind: str) -> str:
    inner: Callable[[random.Random, str], str] = draw.choice((_soup, _maths, _numbers, _deep))
    return f"<think>{'x' * draw.randrange(50)}</think>\n<answer>{inner(draw, kind)[:20_000]}</answer>"


def _maths(draw: random.Random, kind: str) -> str:
    parts = draw.choices(_MATHS, k=draw.choice((1, 1, 1, 2, 3, 12)))
    opened, closed = draw.choice((("$", "$"), (r"\boxed{", "}"), ("", ""), (r"\(", r"\)"), ("$$", "$$")))
    return draw.choice((" ", "+", ", ", "=", "^")).join(f"{opened}{part}{closed}" for part in parts)


def _deep(draw: random.Random, kind: str) -> str:
    depth = draw.choice((50, 1_000, 20_000))
    opened, closed = draw.choice(
        (("[", "]"), ('{"a":', "}"), ("<answer>", "</answer>"), ("(", ")"), (r"\frac{1}{", "}"), (r"\sqrt{", "}"))
    )
    return opened * depth + draw.choice(("", "1")) + closed * draw.choice((0, depth - 1, depth))


def _numbers(draw: random.Random, kind: str) -> str:
    numbers = [draw.choice(_NUMBERS) for _ in range(4)]
    box = f"[{{'Position': [{', '.join(numbers)}], 'Confidence': {draw.choice(_NUMBERS)}}}]"
    corners = "({},{}),({},{})".format(*numbers)
    return f"<answer>{draw.choice((box, corners, numbers[0], f'${numbers[0]}$'))}</answer>"


def _many(draw: random.Random, kind: str) -> str:
    """More boxes than there are things in a picture."""
    count = draw.choice((100, 1_000, 5_000))
    boxes = (
        f"{{'Position': [{left}, {top}, {left + 1 + draw.randrange(300)}, {top + 1 + draw.randrange(300)}], "
        f"'Confidence': {draw.random():.2f}}}"
        for left, top in ((draw.randrange(700), draw.randrange(700)) for _ in range(count))
    )
    return f"<think>many</think><answer>[{', '.join(boxes)}]</answer>"


def _long(draw: random.Random, kind: str) -> str:
    unit = draw.choice((*_TOKENS, *_MATHS, "a", "<answer>(1,2),(3,4)</answer>", "{'Position': ["))
    return unit * (_MEGABYTE // len(unit.encode()) // draw.choice((1, 8)))
