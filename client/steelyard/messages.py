"""Messages as callers write them, with pictures in any form, turned into messages that name pictures by id."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from steelyard.pictures import PictureLike
from steelyard.schema import Conversation, Message

MessageLike: TypeAlias = Message | Mapping[str, object]
ConversationLike: TypeAlias = Conversation | Mapping[str, object]
Refer: TypeAlias = Callable[[PictureLike], str]


def have_parts(messages: object) -> bool:
    """Whether a picture may be in one of them."""
    return any(not isinstance(_plain(message).get("content"), str) for message in _listed(messages) or ())


def with_references(messages: object, refer: Refer) -> object:
    """The messages with each picture in their parts replaced; what is malformed is left for the schema to name."""
    listed = _listed(messages)
    return messages if listed is None else [_message(_plain(message), refer) for message in listed]


def conversation_with_references(
    conversation: ConversationLike, refer: Refer, refer_all: Callable[[Sequence[PictureLike]], list[str]]
) -> dict[str, object]:
    """One whole conversation, likewise."""
    plain = _plain(conversation)
    replaced: dict[str, object] = {}
    if "messages" in plain:
        replaced["messages"] = with_references(plain["messages"], refer)
    if "images" in plain:
        replaced["images"] = refer_all(cast(Sequence[PictureLike], plain["images"]))
    return {**plain, **replaced}


def _listed(things: object) -> Sequence[object] | None:
    return things if isinstance(things, list | tuple) else None


def _plain(thing: object) -> Mapping[str, object]:
    if isinstance(thing, Message | Conversation):
        return thing.model_dump()
    return thing if isinstance(thing, Mapping) else {"": thing}


def _message(message: Mapping[str, object], refer: Refer) -> dict[str, object]:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return dict(message)
    return {**message, "content": [_part(_plain(part), refer) for part in content]}


def _part(part: Mapping[str, object], refer: Refer) -> dict[str, object]:
    where, frames = part.get("image_url"), part.get("frames")
    if part.get("type") == "image_url" and isinstance(where, Mapping) and "url" in where:
        return {**part, "image_url": {**where, "url": refer(where["url"])}}
    if part.get("type") == "video_frames" and isinstance(frames, list | tuple):
        return {**part, "frames": [refer(frame) for frame in frames]}
    return dict(part)
