"""Text from anywhere, made safe for a terminal and fitted to its columns."""

import unicodedata
from collections.abc import Iterator


def visible(text: str) -> str:
    """The text with every character that could command a terminal or turn its text around spelt out."""
    return "".join(letter if letter.isprintable() else _spelt(letter) for letter in text)


def columns(text: str) -> int:
    """How many columns it takes: none for what combines, two for what is wide."""
    return sum(map(_columns_of, text))


def wrap(text: str, width: int) -> list[str]:
    """Safe lines of at most `width` columns, broken between words where they fit; at least one line."""
    return [line for part in text.splitlines() or [""] for line in _wrap_line(visible(part), max(2, width))]


def _wrap_line(line: str, width: int) -> list[str]:
    lines, current = [], ""
    for word in _words(line, width):
        if current and columns(current + " " + word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    return [*lines, current]


def _words(line: str, width: int) -> Iterator[str]:
    """Words, those that are too long for a line in pieces."""
    for word in line.split():
        piece = ""
        for letter in word:
            if columns(piece) + _columns_of(letter) > width:
                yield piece
                piece = ""
            piece += letter
        yield piece


def _spelt(letter: str) -> str:
    is_space = letter == "\t" or unicodedata.category(letter) == "Zs"
    return " " if is_space else repr(letter)[1:-1]


def _columns_of(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
