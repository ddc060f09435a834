"""A conversation as the token ids that transformers' `apply_chat_template` gives. Torch-free."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from models.checkpoint import CheckpointError
from models.encoded import ControlTokens, EncodedCandidate, Unscorable, describe, ids_of, refusal, too_long
from models.sequence_classifier.chat_template import ChatTemplate, TemplateRefused
from models.sequence_classifier.spec import PROBES, ClassifierSpec
from models.tokenizer import Ids, TooManyTokens

# No text has it: it is not a character.
_CUT = "\ufdd0"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# A token that stands for more bytes of text than this is not to be expected of runs of blanks either.
_MOST_BYTES = 128


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str
    content: str


class ClassifierPrompt:
    """The prompt of one checkpoint; safe to use from several threads."""

    def __init__(self, spec: ClassifierSpec) -> None:
        """Raises CheckpointError when its ids are not transformers'."""
        self._tokenizer = Tokenizer.from_str(spec.tokenizer)
        # transformers does neither unless it is asked to.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._most_bytes = max([_MOST_BYTES, *(len(token.encode()) for token in self._tokenizer.get_vocab())])
        tokens = self._tokenizer.get_added_tokens_decoder().values()
        self._control = sorted((token.content for token in tokens if token.special), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._control)) or "(?!)")
        # Also what begins inside another is found.
        self._starts = re.compile(f"(?=({self._pattern.pattern}))")
        try:
            self._template = ChatTemplate(spec.template, spec.special_tokens)
        except TemplateRefused as error:
            raise CheckpointError(f"its chat template cannot be read: {error}") from None
        for probe, expected in zip(PROBES, spec.probes, strict=True):
            if self._probe(probe) != expected:
                raise CheckpointError("its tokenizer does more than its JSON says: transformers has other tokens")

    def encode_answers(
        self, messages: Sequence[Turn], candidates: Sequence[str], control: ControlTokens, max_tokens: int
    ) -> list[EncodedCandidate | Unscorable]:
        """Each candidate as the assistant's answer to the messages, or why it cannot be scored."""
        in_messages = self._find(messages)
        return [
            self._encode(
                [*messages, Turn("assistant", candidate)],
                {"messages": in_messages, "candidate": self._find([Turn("assistant", candidate)])},
                control,
                max_tokens,
            )
            for candidate in candidates
        ]

    def encode_conversation(
        self, messages: Sequence[Turn], control: ControlTokens, max_tokens: int
    ) -> EncodedCandidate | Unscorable:
        """A whole conversation, whoever speaks last."""
        return self._encode(messages, {"messages": self._find(messages)}, control, max_tokens)

    def _encode(
        self, turns: Sequence[Turn], found: Mapping[str, Sequence[str]], control: ControlTokens, max_tokens: int
    ) -> EncodedCandidate | Unscorable:
        for where, texts in found.items():
            refused = refusal(texts, where, control)
            if refused is not None:
                return refused
        if sum(len(turn.content) for turn in turns) > max_tokens * self._most_bytes:
            return too_long(max_tokens)
        literal = control == "literal" and any(found.values())
        if literal and any(len(text) == 1 for texts in found.values() for text in texts):
            return Unscorable("refused", "control text of a single character cannot be spelt out")
        try:
            ids = self._ids(turns, literal=literal, max_tokens=max_tokens)
        except TooManyTokens:
            return too_long(max_tokens)
        except TemplateRefused as error:
            return Unscorable("refused", f"the chat template refuses the conversation: {error}")
        if not len(ids):
            return Unscorable("refused", "the chat template makes no token of the conversation")
        return EncodedCandidate(ids, ids_of(len(ids) - 1), describe(found, control))

    def _ids(self, turns: Sequence[Turn], *, literal: bool, max_tokens: int) -> Ids:
        """Raises TooManyTokens and TemplateRefused."""
        contents = (self._cut_up(turn.content) if literal else turn.content for turn in turns)
        messages = [{"role": turn.role, "content": content} for turn, content in zip(turns, contents, strict=True)]
        text = _LONE_SURROGATE.sub("\ufffd", self._template.render(messages))
        if len(text) > max_tokens * self._most_bytes:
            raise TooManyTokens
        parts = text.split(_CUT) if literal else [text]
        # The template has written what comes first and last; transformers adds nothing to it either.
        ids = [id_ for part in parts for id_ in self._tokenizer.encode(part, add_special_tokens=False).ids]
        if len(ids) > max_tokens:
            raise TooManyTokens
        return np.array(ids, np.int32)

    def _find(self, turns: Sequence[Turn]) -> list[str]:
        """Distinct control text that users wrote."""
        return list(dict.fromkeys(text for turn in turns for text in self._pattern.findall(turn.content)))

    def _cut_up(self, content: str) -> str:
        """Every control text gets a mark behind its first character, at which it is taken apart."""
        content = content.replace(_CUT, "")
        cuts = [match.start() + 1 for match in self._starts.finditer(content)]
        ends = [*cuts, len(content)]
        return _CUT.join(content[start:end] for start, end in zip([0, *cuts], ends, strict=True))

    def _probe(self, probe: Sequence[Mapping[str, str]]) -> list[int] | None:
        try:
            turns = [Turn(message["role"], message["content"]) for message in probe]
            ids: list[int] = self._ids(turns, literal=False, max_tokens=1 << 24).tolist()
        except TemplateRefused:
            return None
        return ids
