"""What the bodies of other projects are made of: messages, parts, documents."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from service.errors import InvalidRequest
from steelyard.schema import MOST_ITEMS, Content, ImagePart, ImageURL, Message, Part, TextPart


class Foreign(BaseModel):
    """Fields that are not named here are ignored, as the foreign server does."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _url(given: object) -> object:
    """OpenAI's `{"url": …}`; some clients send the address alone."""
    return given.get("url") if isinstance(given, dict) else given


class ForeignText(Foreign):
    type: Literal["text", "input_text"] = "text"
    text: str


class ForeignImage(Foreign):
    type: Literal["image_url", "input_image"] = "image_url"
    image_url: Annotated[str, BeforeValidator(_url)] = Field(description="A `sha256:` id, a data URL or base64.")


def _kind(part: object) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return {"text": "[text]", "input_text": "[text]", "image_url": "[image]", "input_image": "[image]"}.get(str(kind))


ForeignPart = Annotated[
    Annotated[ForeignText, Tag("[text]")] | Annotated[ForeignImage, Tag("[image]")],
    Discriminator(
        _kind,
        custom_error_type="unknown_part",
        custom_error_message="a part is of type text or image_url: this server reads nothing else",
    ),
]
Parts = Annotated[list[ForeignPart], Field(max_length=MOST_ITEMS, fail_fast=True)]
ForeignContent = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[Parts, Tag("[parts]")] | Annotated[None, Tag("[none]")],
    Discriminator(lambda given: "[none]" if given is None else "[parts]" if isinstance(given, list) else "[text]"),
]


class ForeignMessage(Foreign):
    """OpenAI's; what it says about tools has no place in a reward model's prompt."""

    role: Literal["system", "developer", "user", "assistant"]
    content: ForeignContent = None


Messages = Annotated[list[ForeignMessage], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)]


class Document(Foreign):
    """vLLM's `{"content": [part]}`, Cohere's `{"text"}`, Jina's `{"text"}`, `{"image"}` or both."""

    content: Parts | None = None
    text: str | None = None
    image: Annotated[str | None, BeforeValidator(_url)] = None


DocumentInput = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[Document, Tag("[document]")],
    Discriminator(lambda given: "[text]" if isinstance(given, str) else "[document]"),
]
Documents = Annotated[list[DocumentInput], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)]

OneOrMore = Annotated[
    Annotated[DocumentInput, Tag("[one]")] | Annotated[Documents, Tag("[more]")],
    Discriminator(lambda given: "[more]" if isinstance(given, list) else "[one]"),
]


def content_of(parts: str | Sequence[ForeignText | ForeignImage] | None) -> Content:
    """In our words; parts that are texts alone are one text."""
    if parts is None or isinstance(parts, str):
        return parts or ""
    if all(isinstance(part, ForeignText) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, ForeignText))
    return [_part(part) for part in parts]


def content_of_document(document: str | Document, field: str) -> Content:
    """Raises InvalidRequest for a document with nothing in it."""
    if isinstance(document, str):
        return document
    if document.content is not None:
        return content_of(document.content)
    if document.image is None:
        if document.text is None:
            raise InvalidRequest(f"{field}: a document is a text, or has content, text or image")
        return document.text
    return [_picture(document.image), *([] if document.text is None else [TextPart(text=document.text)])]


def message_of(message: ForeignMessage) -> Message:
    """With OpenAI's newer name for the system's role."""
    role = "system" if message.role == "developer" else message.role
    return Message(role=role, content=content_of(message.content))


def _part(part: ForeignText | ForeignImage) -> Part:
    return TextPart(text=part.text) if isinstance(part, ForeignText) else _picture(part.image_url)


def _picture(url: str) -> ImagePart:
    return ImagePart(image_url=ImageURL(url=url))
