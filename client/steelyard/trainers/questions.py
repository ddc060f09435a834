"""A question as trainers write it, as the one text or the messages that a reward model takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from steelyard.errors import InvalidCall
from steelyard.pictures import PictureLike
from steelyard.schema import Message
from steelyard.trainers.picture_sources import source_of
from steelyard.trainers.samples import PictureSource, QuestionLike, Sample

MARKER = "<image>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the picture of this index stands; `marked` when a text said so and not a part of its own."""

    index: int
    marked: bool


Piece: TypeAlias = str | Place
Part: TypeAlias = str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Turns and their pictures, which stand in their places, or all before the first turn."""

    turns: tuple[Turn, ...]
    pictures: tuple[PictureLike, ...]

    def as_text(self) -> str:
        """For a step model, which reads one question. Raises InvalidCall for a conversation."""
        asked = [turn for turn in self.turns if turn.role != "system"]
        if [turn.role for turn in asked] != ["user"]:
            raise InvalidCall(
                f"a step model reads one question, not turns of {[turn.role for turn in self.turns]}: "
                "give the question as a text, or use an outcome model"
            )
        return "".join(_in_text(piece) for piece in asked[0].pieces)

    def as_messages(self) -> tuple[list[Mapping[str, object]], Sequence[PictureLike]]:
        """For an outcome model: the messages, and the pictures that stand before them."""
        messages = [self._message(turn) for turn in self.turns]
        placed = any(isinstance(piece, Place) for turn in self.turns for piece in turn.pieces)
        return messages, () if placed else self.pictures

    def _message(self, turn: Turn) -> Mapping[str, object]:
        if all(isinstance(piece, str) for piece in turn.pieces):
            return {"role": turn.role, "content": "".join(_in_text(piece) for piece in turn.pieces)}
        return {"role": turn.role, "content": list(self._parts(turn.pieces))}

    def _parts(self, pieces: Sequence[Piece]) -> Iterator[Mapping[str, object]]:
        after_marker = False
        for piece in pieces:
            if isinstance(piece, Place):
                yield {"type": "image_url", "image_url": {"url": self.pictures[piece.index]}}
            # The line break belongs to the marker's line.
            elif text := piece.removeprefix("\n") if after_marker else piece:
                yield {"type": "text", "text": text}
            after_marker = isinstance(piece, Place) and piece.marked


def question_of(sample: Sample) -> Question:
    """Raises InvalidCall for messages that are none, and when pictures and their places differ in number."""
    turns = [(_role(message), _parts_of(message)) for message in _messages(sample.question)]
    parts = [part for _, said in turns for part in said]
    if all(isinstance(part, str) for part in parts):
        pictures = tuple(source_of(image) for image in sample.images)
        marked = sum(str(part).count(MARKER) for part in parts) == len(pictures) > 0
        places = (Place(index, marked=True) for index in range(len(pictures)))
        cut = (Turn(role, tuple(_cut(said, places, marked))) for role, said in turns)
    else:
        pictures = _pictures(parts, sample.images)
        places = (Place(index, marked=False) for index in range(len(pictures)))
        cut = (Turn(role, tuple(p if isinstance(p, str) else next(places) for p in said)) for role, said in turns)
    return Question(_without_leading(tuple(cut), len(pictures)), pictures)


def _without_leading(turns: tuple[Turn, ...], pictures: int) -> tuple[Turn, ...]:
    """Pictures that all stand at the head of what the user first says stand where the reference puts them unasked."""
    first = next((place for place, turn in enumerate(turns) if turn.role != "system"), None)
    if first is None or not pictures:
        return turns
    pieces = list(turns[first].pieces)
    for _ in range(pictures):
        piece = pieces.pop(0) if pieces else ""
        following = pieces[0] if pieces else ""
        if not isinstance(piece, Place):
            return turns
        if piece.marked:
            if not isinstance(following, str) or not following.startswith("\n"):
                return turns
            pieces[:1] = [following.removeprefix("\n")] if following != "\n" else []
    return (*turns[:first], Turn(turns[first].role, tuple(pieces)), *turns[first + 1 :])


def _in_text(piece: Piece) -> str:
    """A picture's own line is the reference's way to write it."""
    if isinstance(piece, str):
        return piece
    return MARKER if piece.marked else f"{MARKER}\n"


def _cut(texts: Sequence[Part], places: Iterator[Place], marked: bool) -> Iterator[Piece]:
    """The texts with places for their markers; another number of them than of pictures is the server's to refuse."""
    for text in map(str, texts):
        first, *others = text.split(MARKER) if marked else [text]
        if first:
            yield first
        for following in others:
            yield next(places)
            if following:
                yield following


def _messages(question: QuestionLike) -> Sequence[Mapping[str, object]]:
    if isinstance(question, str):
        return [{"role": "user", "content": question}]
    messages = [message.model_dump() if isinstance(message, Message) else message for message in question]
    if not all(isinstance(message, Mapping) for message in messages):
        raise InvalidCall("a question is a text, or messages of a `role` and a `content`")
    return messages


def _role(message: Mapping[str, object]) -> str:
    role = message.get("role")
    if not isinstance(role, str):
        raise InvalidCall("a message has a `role`")
    return role


def _parts_of(message: Mapping[str, object]) -> list[Part]:
    """Texts as they are, pictures as their parts."""
    content = message.get("content")
    parts = content if isinstance(content, list | tuple) else [content or ""]
    return [_part(part) for part in parts]


def _part(part: object) -> Part:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or kind not in ("text", "image", "image_url"):
        raise InvalidCall(f"a part of type {kind!r}: a reward model reads texts and pictures")
    return str(part.get("text") or "") if kind == "text" else part


def _pictures(parts: Sequence[Part], beside: Sequence[PictureSource]) -> tuple[PictureLike, ...]:
    """One for each part that is a picture: its own, else the next of those beside the conversation."""
    own = [_own(part) for part in parts if not isinstance(part, str)]
    wanted = sum(picture is None for picture in own)
    if wanted not in (0, len(beside)):
        raise InvalidCall(f"{len(beside)} pictures for {wanted} places in the messages")
    waiting = iter(beside)
    return tuple(source_of(next(waiting) if picture is None else picture) for picture in own)


def _own(part: Mapping[str, object]) -> "PictureSource | None":
    where = part.get("image_url")
    own = part.get("image", where.get("url") if isinstance(where, Mapping) else where)
    return cast("PictureSource | None", own)
