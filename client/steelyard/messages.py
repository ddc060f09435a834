"""Messages as callers write them, with pictures in any form, turned into messages that name pictures by id."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from steelyard.pictures import Album, PictureLike
from steelyard.schema import Conversation, Message

MessageLike: TypeAlias = Message | Mapping[str, object]
ConversationLike: TypeAlias = Conversation | Mapping[str, object]


def have_parts(messages: object) -> bool:
    """Whether a picture may be in one of them."""
    return any(not isinstance(_plain(message).get("content"), str) for message in _listed(messages) or ())


def with_references(messages: object, album: Album) -> object:
    """The messages with each picture in their parts replaced; what is malformed is left for the schema to name."""
    listed = _listed(messages)
    return messages if listed is None else [_message(_plain(message), album) for message in listed]


def conversations_with_references(conversations: object, album: Album) -> object:
    """Whole conversations, likewise."""
    listed = _listed(conversations)
    return conversations if listed is None else [_conversation(_plain(each), album) for each in listed]


def _listed(things: object) -> Sequence[object] | None:
    return things if isinstance(things, list | tuple) else None


def _plain(thing: object) -> Mapping[str, object]:
    if isinstance(thing, Message | Conversation):
        return thing.model_dump()
    return thing if isinstance(thing, Mapping) else {"": thing}


def _conversation(conversation: Mapping[str, object], album: Album) -> dict[str, object]:
    replaced = dict(conversation)
    if "messages" in replaced:
        replaced["messages"] = with_references(replaced["messages"], album)
    if "images" in replaced:
        replaced["images"] = album.refer_all(cast(Sequence[PictureLike], replaced["images"]))
    return replaced


def _message(message: Mapping[str, object], album: Album) -> dict[str, object]:
    parts = _listed(message.get("content"))
    return dict(message) if parts is None else {**message, "content": [_part(_plain(part), album) for part in parts]}


def _part(part: Mapping[str, object], album: Album) -> dict[str, object]:
    where, frames = part.get("image_url"), _listed(part.get("frames"))
    if part.get("type") == "image_url" and isinstance(where, Mapping) and "url" in where:
        return {**part, "image_url": {**where, "url": album.refer(where["url"])}}
    if part.get("type") == "video_frames" and frames is not None:
        return {**part, "frames": [album.refer(cast(PictureLike, frame)) for frame in frames]}
    return dict(part)
