"""IXC-2.5-Reward's prompt: a conversation with its pictures as token ids, read out at its last one. Torch-free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from models.checkpoint import CheckpointError
from models.encoded import (
    ControlTokens,
    Draft,
    EncodedCandidate,
    EncodedGroup,
    MarkerCount,
    PictureRun,
    Unscorable,
    describe,
    ids_of,
    refusal,
    share_prefix,
    split_at_markers,
    template,
    too_long,
)
from models.ixc_reward.spec import IXCRewardSpec
from models.tokenizer import Ids, Segment, Tokenizer, TooManyTokens

MARKER = "<ImageHere>"
# Where the reference cuts a prompt unless told otherwise.
MAX_TOKENS = 16_384

Role = Literal["system", "user", "assistant"]

_START_TURN, _END_TURN, _REWARD = "[UNUSED_TOKEN_146]", "[UNUSED_TOKEN_145]\n", "[UNUSED_TOKEN_130]"
_END = f"</s>{_REWARD}"
# The id that keeps a picture's places; its embedding is never looked at.
_PLACE = 0


class UnknownRole(Exception):
    """A message's role is none of the three that the prompt has."""


@dataclass(frozen=True, slots=True)
class PicturePart:
    """Where a message holds a picture itself: its index among all the conversation's pictures."""

    index: int


class Message(NamedTuple):
    """One turn of a conversation: a text, or texts with pictures between."""

    role: Role
    content: str | Sequence[str | PicturePart]


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePrompt:
    """What the reference feeds its network: ids (tokens,) int32, read out at the last one, and each picture's run."""

    ids: Ids
    pictures: tuple[PictureRun, ...]

    def cut(self, max_tokens: int) -> "ReferencePrompt":
        """At most the first tokens, as the reference cuts it, be it inside a picture."""
        kept = [run for run in self.pictures if run.offset < max_tokens]
        runs = tuple(PictureRun(run.offset, min(run.tokens, max_tokens - run.offset)) for run in kept)
        return ReferencePrompt(self.ids[:max_tokens], runs)


def render(messages: Sequence[Message]) -> str:
    """The conversation as the reference writes it, before any picture is placed. Raises UnknownRole."""
    turns = [part for part in _turns(messages) if isinstance(part, Segment)]
    return "".join(segment.text for segment in [*turns, template(_END)])


class OutcomePrompt:
    """The prompt of one checkpoint; safe to use from several threads."""

    def __init__(self, spec: IXCRewardSpec, tokenizer: Tokenizer) -> None:
        """Raises CheckpointError when the tokenizer is not one of this family, or outgrows the embedding."""
        if tokenizer.size > spec.decoder.vocab_size:
            raise CheckpointError(f"the tokenizer has {tokenizer.size} ids, the decoder {spec.decoder.vocab_size}")
        for token in (_START_TURN, _END_TURN.rstrip("\n"), _REWARD, "</s>"):
            tokenizer.control_id(token)
        self._tokenizer = tokenizer
        self._end = tokenizer.encode([template(_END)]).ids

    def encode_group(
        self,
        messages: Sequence[Message],
        picture_tokens: Sequence[int],
        candidates: Sequence[str],
        control: ControlTokens,
        max_tokens: int,
    ) -> EncodedGroup:
        """Encode each candidate as the assistant's answer to the messages, or say why it cannot be scored.

        `picture_tokens` are those of all pictures: the ones that no message holds itself go to the markers, in order.
        Raises MarkerCount when the messages place another number of them, and UnknownRole.
        """
        answers = [[_start("assistant"), Segment(candidate), template(_END_TURN)] for candidate in candidates]
        return self._encode(messages, picture_tokens, answers, control, max_tokens)

    def encode_conversation(
        self, messages: Sequence[Message], picture_tokens: Sequence[int], control: ControlTokens, max_tokens: int
    ) -> EncodedGroup:
        """Encode a whole conversation, of any length and order of roles, as the only candidate of a group.

        Pictures and errors as for a group.
        """
        return self._encode(messages, picture_tokens, [[]], control, max_tokens)

    def encode_reference(
        self, text: str, picture_tokens: Sequence[int], max_tokens: int = MAX_TOKENS
    ) -> ReferencePrompt:
        """Encode any text by the reference's own rules, also where they lose what should be scored.

        Pictures that are not marked come after the whole text, but a single one before it. Nothing is added to what
        has more than `max_tokens`; it is left to the caller to `cut` that.
        """
        if len(picture_tokens) == 1 and MARKER not in text:
            text = MARKER + text
        parts, runs, length = [self._tokenizer.bos], [], len(self._tokenizer.bos)
        for index, part in enumerate(text.split(MARKER)):
            parts.append(self._tokenizer.encode([template(part)]).ids)
            length += len(parts[-1])
            if index < len(picture_tokens):
                runs.append(PictureRun(length, picture_tokens[index]))
                parts.append(_places(picture_tokens[index]))
                length += picture_tokens[index]
            if length > max_tokens:
                break
        return ReferencePrompt(np.concatenate(parts), tuple(runs))

    def _encode(
        self,
        messages: Sequence[Message],
        picture_tokens: Sequence[int],
        answers: Sequence[Sequence[Segment]],
        control: ControlTokens,
        max_tokens: int,
    ) -> EncodedGroup:
        opening, draft = _place_pictures(_turns(messages), len(picture_tokens)), Draft(max_tokens)
        try:
            pictures, found = self._encode_opening(draft, opening, picture_tokens, control == "literal")
        except TooManyTokens:
            return EncodedGroup(ids_of(), (), (too_long(max_tokens),) * len(answers))
        refused = refusal(found, "messages", control)
        if refused is not None:
            return EncodedGroup(ids_of(), (), (refused,) * len(answers))
        head = draft.ids()
        # An answer begins with a control token, so nothing merges across its seam with the head.
        encoded = [self._encode_answer(answer, len(head), found, control, max_tokens) for answer in answers]
        return share_prefix(head, pictures, encoded)

    def _encode_opening(
        self, draft: Draft, opening: "_Opening", picture_tokens: Sequence[int], literal: bool
    ) -> tuple[tuple[PictureRun, ...], list[str]]:
        """Each picture's run, by its index, and the control text found; every turn is tokenised on its own."""
        runs: dict[int, PictureRun] = {}
        found: list[str] = []
        draft.add(self._tokenizer.bos)
        for position, text in enumerate(opening.texts):
            if position:
                index = opening.pictures[position - 1]
                runs[index] = PictureRun(draft.length, picture_tokens[index])
                draft.add(_places(picture_tokens[index]))
            for turn in _cut_at_turns(text):
                ids, control = self._tokenizer.encode(turn, literal=literal, max_tokens=draft.room)
                draft.add(ids)
                found.extend(control)
        return tuple(runs[index] for index in range(len(runs))), list(dict.fromkeys(found))

    def _encode_answer(
        self,
        answer: Sequence[Segment],
        before: int,
        in_messages: Sequence[str],
        control: ControlTokens,
        max_tokens: int,
    ) -> EncodedCandidate | Unscorable:
        if any(MARKER in segment.text for segment in answer):
            return Unscorable("refused", f"{MARKER} in the candidate: only messages place pictures")
        draft, literal = Draft(max_tokens - before), control == "literal"
        try:
            ids, found = self._tokenizer.encode(answer, literal=literal, max_tokens=draft.room)
            draft.add(ids)
            draft.add(self._end)
        except TooManyTokens:
            return too_long(max_tokens)
        detail = describe({"messages": in_messages, "candidate": found}, control)
        last = ids_of(before + draft.length - 1)
        return refusal(found, "candidate", control) or EncodedCandidate(draft.ids(), last, detail)


@dataclass(frozen=True, slots=True)
class _Opening:
    """Runs of text, and the index of the picture that stands between each and the next."""

    texts: list[list[Segment]]
    pictures: list[int]


def _turns(messages: Sequence[Message]) -> list[Segment | PicturePart]:
    turns: list[Segment | PicturePart] = []
    for role, content in messages:
        if role not in get_args(Role):
            raise UnknownRole(f"the role must be one of {', '.join(get_args(Role))}, found {role!r:.80}")
        parts = [content] if isinstance(content, str) else content
        said = [Segment(part) if isinstance(part, str) else part for part in parts]
        turns += [_start(role), *said, template(_END_TURN)]
    return turns


def _cut_at_turns(text: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Stretches that are each encoded alone, so that a conversation that has grown asks for its new turn alone.

    A turn begins with a control token, and the first character of one is inside of none: whatever stands before it,
    nothing merges across.
    """
    start = 0
    for index, segment in enumerate(text):
        if segment.trusted and segment.text.startswith(_START_TURN):
            yield text[start:index]
            start = index
    yield text[start:]


def _start(role: Role) -> Segment:
    return template(f"{_START_TURN}{role}\n")


def _place_pictures(turns: Sequence[Segment | PicturePart], pictures: int) -> _Opening:
    """Pictures that no message holds stand at the markers; without a marker they come first. Raises MarkerCount."""
    held = {part.index for part in turns if isinstance(part, PicturePart)}
    loose = [index for index in range(pictures) if index not in held]
    markers = sum(part.text.count(MARKER) for part in turns if isinstance(part, Segment))
    if markers and markers != len(loose):
        # Before anything is split: a text may hold millions of them.
        raise MarkerCount("the messages have", MARKER, markers, len(loose))
    texts: list[list[Segment]] = [[]]
    places: list[int | None] = []
    for part in turns:
        if isinstance(part, PicturePart):
            texts.append([])
            places.append(part.index)
        else:
            first, *rest = split_at_markers([part], MARKER)
            texts[-1] += first
            texts += rest
            places += [None] * len(rest)
    if not markers:
        return _Opening([[] for _ in loose] + texts, loose + [index for index in places if index is not None])
    waiting = iter(loose)
    return _Opening(texts, [next(waiting) if index is None else index for index in places])


def _places(tokens: int) -> Ids:
    return np.full(tokens, _PLACE, np.int32)
