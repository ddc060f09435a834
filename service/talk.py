"""A conversation as the wire has it, taken apart: what the prompt is made of, and which pictures it names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from models.ixc_reward.prompt import Message, PicturePart
from steelyard import schema


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """References to the files of one picture: one file, or with `frames` those of a video."""

    references: tuple[str, ...]
    frames: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """Messages, whose parts name pictures by index: first come those that are placed by markers, then parts' own."""

    messages: tuple[Message, ...]
    pictures: tuple[NamedPicture, ...]


def read_talk(messages: Sequence[schema.Message], images: Sequence[str]) -> Talk:
    """Neighbouring texts of a message become one."""
    pictures = [NamedPicture((reference,)) for reference in images]
    read: list[Message] = []
    for message in messages:
        parts = message.content
        content = parts if isinstance(parts, str) else _joined(_read_part(part, pictures) for part in parts)
        read.append(Message(message.role, content))
    return Talk(tuple(read), tuple(pictures))


def _read_part(part: schema.Part, pictures: list[NamedPicture]) -> str | PicturePart:
    if isinstance(part, schema.TextPart):
        return part.text
    if isinstance(part, schema.ImagePart):
        pictures.append(NamedPicture((part.image_url.url,)))
    else:
        pictures.append(NamedPicture(tuple(part.frames), frames=True))
    return PicturePart(len(pictures) - 1)


def _joined(parts: Iterable[str | PicturePart]) -> list[str | PicturePart]:
    joined: list[str | PicturePart] = []
    for is_text, run in groupby(parts, lambda part: isinstance(part, str)):
        together = list(run)
        joined += ["".join(map(str, together))] if is_text else together
    return joined
