"""What a trainer's prompt, its answer and its label come to: turns, an answer, and the pictures by their ids."""

import json
import re

from service.compat.asking import Group
from service.compat.chat_text import ChatText, looks_templated, read_chat
from service.errors import InvalidRequest

_ID = re.compile(r"sha256:[0-9a-f]{64}(?![0-9a-f])")


def picture_ids(label: object) -> tuple[str, ...]:
    """The ids in a label of any form, in their order, each once."""
    text = label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
    return tuple(dict.fromkeys(_ID.findall(text)))


def group_of(chat: ChatText, label: object, place: int, field: str) -> Group:
    """Raises InvalidRequest when the policy was shown a picture and the label names none."""
    images = picture_ids(label)
    if chat.shown and not images:
        raise InvalidRequest(
            f"{field}: a picture stands in the prompt, and the label has no sha256: id of it; send its bytes with "
            f"PUT /images and put the id into the label, or the answer would be scored blind"
        )
    return Group(chat.messages, (chat.answer,), (place,), images)


def split(text: str, field: str) -> ChatText:
    """A chat's turns with its answer. Raises InvalidRequest for what cannot be taken apart."""
    chat = read_chat(text)
    if chat is None:
        known = (
            "its chat template is not one that is known here" if looks_templated(text) else "it has no chat template"
        )
        raise InvalidRequest(f"{field}: {known}, so its answer cannot be told from its question; send prompts as well")
    if chat.answer is None:
        raise InvalidRequest(f"{field}: its last turn is not the assistant's")
    return chat
