"""A group's prompts as token ids: what its candidates share once, then each one's own. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.tokenizer import Ids, Segment, TooManyTokens

ControlTokens = Literal["parse", "literal", "refuse"]

_NAMED_AT_MOST = 5


class MarkerCount(Exception):
    """A text places another number of pictures than there are; `where` says which, as in "the question has"."""

    def __init__(self, where: str, marker: str, markers: int, pictures: int) -> None:
        super().__init__(f"{where} {markers} {marker} markers for {pictures} pictures")
        self.markers = markers
        self.pictures = pictures


@dataclass(frozen=True, slots=True)
class PictureRun:
    """Where a picture's tokens stand: `tokens` positions of every prompt of the group, from `offset` on."""

    offset: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedCandidate:
    """The ids after the group's prefix, and the read-outs as positions in the whole prompt; int32.

    `detail` says what control text was found, and what became of it.
    """

    suffix: Ids
    readouts: Ids
    detail: str | None


@dataclass(frozen=True, slots=True)
class Unscorable:
    """Why a candidate has no prompt that could be scored."""

    reason: Literal["too_long", "refused"]
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGroup:
    """The longest prefix that all encoded candidates share, once; then each candidate in the caller's order."""

    prefix: Ids
    pictures: tuple[PictureRun, ...]
    candidates: tuple[EncodedCandidate | Unscorable, ...]

    def ids(self, index: int) -> Ids:
        """The whole prompt of a candidate, (tokens,): what the reference tokenises. It must have been encoded."""
        candidate = self.candidates[index]
        assert isinstance(candidate, EncodedCandidate)
        return np.concatenate([self.prefix, candidate.suffix])

    def prompt_tokens(self, index: int) -> int:
        candidate = self.candidates[index]
        return len(self.prefix) + len(candidate.suffix) if isinstance(candidate, EncodedCandidate) else 0


def common_prefix(sequences: Sequence[npt.NDArray[np.integer[Any]]]) -> int:
    """How many leading tokens all sequences share: all of them for one sequence, none for none."""
    length = min(map(len, sequences), default=0)
    for sequence in sequences[1:]:
        differs = sequences[0][:length] != sequence[:length]
        if differs.any():
            length = int(differs.argmax())
    return length


class Draft:
    """Ids of a prompt as it grows. Raises TooManyTokens past `limit`."""

    def __init__(self, limit: int) -> None:
        self._parts: list[Ids] = []
        self._limit = limit
        self.length = 0

    @property
    def room(self) -> int:
        return self._limit - self.length

    def add(self, ids: Ids) -> None:
        self.length += len(ids)
        if self.length > self._limit:
            raise TooManyTokens
        self._parts.append(ids)

    def ids(self) -> Ids:
        return np.concatenate(self._parts)


def share_prefix(
    head: Ids, pictures: tuple[PictureRun, ...], candidates: Sequence[EncodedCandidate | Unscorable]
) -> EncodedGroup:
    """Move what all candidates have in common, beyond the head that was encoded once, into the prefix."""
    tails = [candidate.suffix for candidate in candidates if isinstance(candidate, EncodedCandidate)]
    shared = common_prefix(tails)
    prefix = np.concatenate([head, tails[0][:shared]]) if tails else head
    return EncodedGroup(
        prefix,
        pictures,
        tuple(
            replace(candidate, suffix=candidate.suffix[shared:])
            if isinstance(candidate, EncodedCandidate)
            else candidate
            for candidate in candidates
        ),
    )


def split_at_markers(segments: Sequence[Segment], marker: str, most: int = -1) -> list[list[Segment]]:
    """The runs of text before, between and after the first `most` markers, or all of them."""
    runs: list[list[Segment]] = [[]]
    for text, trusted in segments:
        first, *rest = text.split(marker, most)
        most -= len(rest)
        runs[-1].append(Segment(first, trusted))
        runs.extend([Segment(part, trusted)] for part in rest)
    return runs


def refusal(found: Sequence[str], where: str, control: ControlTokens) -> Unscorable | None:
    """The answer to control text that the caller does not allow."""
    if control == "refuse" and found:
        return Unscorable("refused", f"control text in the {where}: {names(found)}")
    return None


def describe(found: Mapping[str, Sequence[str]], control: ControlTokens) -> str | None:
    """What control text was found, by where, and what became of it; None when there was none."""
    places = [f"in the {where}: {names(texts)}" for where, texts in found.items() if texts]
    if not places:
        return None
    became = "spelt out in plain pieces" if control == "literal" else "read as control tokens"
    return f"control text {', and '.join(places)}; {became}"


def names(found: Sequence[str]) -> str:
    """The first distinct ones, for a message."""
    distinct = list(dict.fromkeys(found))
    return " ".join(distinct[:_NAMED_AT_MOST]) + (" …" if len(distinct) > _NAMED_AT_MOST else "")


def too_long(max_tokens: int) -> Unscorable:
    """The answer to a prompt of more than `max_tokens`."""
    return Unscorable("too_long", f"the prompt has more than {max_tokens} tokens")


def ids_of(*ids: int) -> Ids:
    """Ids, (tokens,) int32."""
    return np.array(ids, np.int32)


def template(text: str) -> Segment:
    """Text of the prompt's own, whose control tokens are meant."""
    return Segment(text, trusted=True)
