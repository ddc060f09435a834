"""A user's turn as the question of a process reward model: one text, and its pictures in their order."""

from collections.abc import Sequence

from models.visual_prm.prompt import MARKER
from service.errors import InvalidRequest
from steelyard.schema import Content, ImagePart, Part, TextPart


def question_of(content: Content, images: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The text and its pictures, `images` first.

    Pictures that come before all text are left unmarked: the model has its own place for them, a line each before the
    question, and a line break that the text begins with is that line's. Where a picture stands between texts, every
    one is marked where it stands. Raises InvalidRequest for videos.
    """
    parts = [part for part in parts_of(content) if part != TextPart(text="")]
    leading = next((index for index, part in enumerate(parts) if isinstance(part, TextPart)), len(parts))
    text, pictures = marked(parts)
    if len(pictures) > leading:
        return f"{MARKER}\n" * len(images) + text, [*images, *pictures]
    text = text.removeprefix(MARKER * leading)
    return text.removeprefix("\n") if leading else text, [*images, *pictures]


def marked(parts: Sequence[Part]) -> tuple[str, list[str]]:
    """The text with a marker where each picture stands, and the pictures. Raises InvalidRequest for videos."""
    text, pictures = "", []
    for part in parts:
        if isinstance(part, TextPart):
            text += part.text
        elif isinstance(part, ImagePart):
            text += MARKER
            pictures.append(part.image_url.url)
        else:
            raise InvalidRequest("messages: a process reward model takes no video; send pictures")
    return text, pictures


def parts_of(content: Content) -> Sequence[Part]:
    """A text is one part."""
    return [TextPart(text=content)] if isinstance(content, str) else content
