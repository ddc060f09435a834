"""A chat that a policy's template has made one text of, split back into its turns."""

import re
from dataclasses import dataclass
from typing import Literal

from service.errors import InvalidRequest
from steelyard.schema import Message

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "INST": "user",
    "assistant": "assistant",
    "model": "assistant",
    "/INST": "assistant",
}
# Where a turn begins, in one template each; the group is who speaks.
_HEADERS = tuple(
    map(
        re.compile,
        (
            r"<\|im_start\|>(\w+)\n",
            r"\[UNUSED_TOKEN_146\](\w+)\n",
            r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n",
            r"<\|header_start\|>(\w+)<\|header_end\|>\n\n",
            r"<start_of_turn>(\w+)\n",
            r"<\|(system|user|assistant)\|>\n?",
            r"<｜(User|Assistant)｜>",
            r" ?\[(/?INST)\] ?",
            r" ?\b(USER|ASSISTANT): ?",
        ),
    )
)
# What ends a turn or a text, or fills it up, in any of them.
_ENDS = (
    "<|im_end|>",
    "[UNUSED_TOKEN_145]",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<end_of_turn>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|finetune_right_pad_id|>",
    "<｜end▁of▁sentence｜>",
    "<eos>",
    "</s>",
    "<s>",
    "<pad>",
    "[PAD]",
)
_STARTS = re.compile(
    r"(?:<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|\[gMASK\]|<sop>|<pad>|\[PAD\]|<\|endoftext\|>"
    r"|<\|finetune_right_pad_id\|>|<unk>)+"
)
_PICTURE = (
    r"(?:<\|(?:vision_start|vision_end|image_pad|image_start|image_end|image|image_\d+|patch|begin_of_image"
    r"|end_of_image|media_start|media_content|media_pad|media_end)\|>"
    r"|</?img>|<IMG_CONTEXT>|</?image>|<ImageHere>|<start_of_image>|<end_of_image>|<image_soft_token>"
    r"|\[IMG\]|\[IMG_BREAK\]|\[IMG_END\])"
)
_PICTURES = re.compile(_PICTURE + "+")
_PICTURES_AND_LINES = re.compile(_PICTURE + r"+\n*")
# Tokens of a template that is not one of these.
_FOREIGN = re.compile(r"<\|[\w/-]{1,40}\|>|<｜[^｜]{1,40}｜>|\[/?INST\]|<(?:start|end)_of_turn>")


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody says, without the template around it."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ChatText:
    """The turns of a chat; `answer` is the assistant's last, None when somebody else speaks last.

    `shown` says that pictures stood in the turns before the answer; their tokens are dropped.
    """

    turns: tuple[Turn, ...]
    answer: str | None
    shown: bool

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns before the answer."""
        return tuple(Message(role=turn.role, content=turn.text) for turn in self.turns)


def read_chat(text: str) -> ChatText | None:
    """None when no template is recognised in it. Raises InvalidRequest for a speaker that no model knows."""
    turns = _turns(_bare(text))
    if not turns:
        return None
    answer = turns.pop().text if turns[-1].role == "assistant" else None
    return _without_pictures(turns, answer)


def read_answered(text: str, prompt: str) -> ChatText | None:
    """A chat whose beginning is known: all that follows is the answer, also where it looks like another turn.

    None when the text does not begin so, or the template is not known. A prompt without one is a user's turn.
    """
    text, prompt = _bare(text), _bare(prompt)
    end = _end_of(prompt, text)
    turns = _turns(prompt)
    if end is None or (not turns and looks_templated(prompt)):
        return None
    turns = turns or [Turn("user", prompt)]
    begun = turns.pop().text if turns[-1].role == "assistant" else ""
    return _without_pictures(turns, begun + without_ends(text[end:]))


def looks_templated(text: str) -> bool:
    """Whether there are tokens in it that belong to some chat's template."""
    return _FOREIGN.search(text) is not None


def without_ends(text: str) -> str:
    """Without the tokens that end a turn; what stands before them is kept as it is."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1] in " \n":
            last -= 1
        token = next((token for token in _ENDS if text.endswith(token, 0, last)), None)
        if token is None:
            return text[:end]
        end = last - len(token)


def _turns(text: str) -> list[Turn]:
    """By the template whose header comes first; text before that is the system's."""
    firsts = [(found.start(), header) for header in _HEADERS if (found := header.search(text))]
    if not firsts:
        return []
    start, header = min(firsts, key=lambda first: first[0])
    before = without_ends(text[:start])
    turns = [Turn("system", before)] if before.strip() else []
    headers = list(header.finditer(text))
    for this, following in zip(headers, [*headers[1:], None], strict=True):
        content = text[this.end() : following.start() if following else len(text)]
        turns.append(Turn(_role(this[1]), without_ends(content)))
    return turns


def _role(name: str) -> Role:
    role = _ROLES.get(name) or _ROLES.get(name.lower())
    if role is None:
        raise InvalidRequest(f"the chat has a turn of {name[:40]!r}: only system, user and assistant can be scored")
    return role


def _bare(text: str) -> str:
    """Without what a tokenizer puts before a text."""
    found = _STARTS.match(text)
    return text[found.end() :] if found else text


def _end_of(prompt: str, text: str) -> int | None:
    """Where the prompt ends in a text that begins with it, however many tokens each of its pictures has there."""
    at, done = 0, 0
    for run in _PICTURES.finditer(prompt):
        part = prompt[done : run.start()]
        there = _PICTURES.match(text, at + len(part)) if text.startswith(part, at) else None
        if there is None:
            return None
        at, done = there.end(), run.end()
    return at + len(prompt) - done if text.startswith(prompt[done:], at) else None


def _without_pictures(turns: list[Turn], answer: str | None) -> ChatText:
    """An answer may spell such a token; it is a picture's only in what was asked."""
    shown = [_PICTURES.search(turn.text) is not None for turn in turns]
    kept = [
        Turn(turn.role, _PICTURES_AND_LINES.sub("", turn.text).lstrip("\n")) if has else turn
        for turn, has in zip(turns, shown, strict=True)
    ]
    return ChatText(tuple(kept), answer, any(shown))
