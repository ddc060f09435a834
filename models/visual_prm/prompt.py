"""VisualPRM's prompt: a question, its pictures and candidates' steps as token ids with read-outs. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.checkpoint import CheckpointError
from models.tokenizer import EncodedText, Ids, Segment, Tokenizer, TooManyTokens
from models.visual_prm.spec import VisualPRMSpec

MARKER = "<image>"
ControlTokens = Literal["parse", "literal", "refuse"]

_CONTEXT = "<IMG_CONTEXT>"
_BEFORE_QUESTION = "user\n### Question:\n"
_BEFORE_STEPS = "\n\n### Solution Process:\n"
_BEFORE_STEP = "user\n"
_NAMED_AT_MOST = 5


class MarkerCount(Exception):
    """The question places another number of pictures than there are."""

    def __init__(self, markers: int, pictures: int) -> None:
        super().__init__(f"the question has {markers} {MARKER} markers for {pictures} pictures")
        self.markers = markers
        self.pictures = pictures


@dataclass(frozen=True, slots=True)
class PictureRun:
    """Where a picture's tokens stand: `tokens` positions of every prompt of the group, from `offset` on."""

    offset: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedCandidate:
    """The ids after the group's prefix, and each step's read-out as a position in the whole prompt; int32.

    A read-out is the token before a step's `+`. `detail` says what control text was found, and what became of it.
    """

    suffix: Ids
    readouts: Ids
    detail: str | None


@dataclass(frozen=True, slots=True)
class Unscorable:
    """Why a candidate has no prompt that could be scored."""

    reason: Literal["too_long", "refused"]
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGroup:
    """The longest prefix that all encoded candidates share, once; then each candidate in the caller's order."""

    prefix: Ids
    pictures: tuple[PictureRun, ...]
    candidates: tuple[EncodedCandidate | Unscorable, ...]

    def ids(self, index: int) -> Ids:
        """The whole prompt of a candidate, (tokens,): what the reference tokenises. It must have been encoded."""
        candidate = self.candidates[index]
        assert isinstance(candidate, EncodedCandidate)
        return np.concatenate([self.prefix, candidate.suffix])

    def prompt_tokens(self, index: int) -> int:
        candidate = self.candidates[index]
        return len(self.prefix) + len(candidate.suffix) if isinstance(candidate, EncodedCandidate) else 0


def place_pictures(question: str, pictures: int) -> str:
    """Put one `<image>` line for each picture first, unless the question places them. Raises MarkerCount."""
    markers = question.count(MARKER)
    if pictures and not markers:
        return f"{MARKER}\n" * pictures + question
    if pictures and markers != pictures:
        raise MarkerCount(markers, pictures)
    return question


def common_prefix(sequences: Sequence[Ids]) -> int:
    """How many leading tokens all sequences share: all of them for one sequence, none for none."""
    length = min(map(len, sequences), default=0)
    for sequence in sequences[1:]:
        differs = sequences[0][:length] != sequence[:length]
        if differs.any():
            length = int(differs.argmax())
    return length


def label_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the bare pieces `+` and `-`. Raises CheckpointError when the vocabulary lacks one."""
    return tokenizer.piece_id("+"), tokenizer.piece_id("-")


class _Draft:
    """Ids of a prompt as it grows. Raises TooManyTokens past `limit`."""

    def __init__(self, limit: int) -> None:
        self._parts: list[Ids] = []
        self._limit = limit
        self.length = 0

    @property
    def room(self) -> int:
        return self._limit - self.length

    def add(self, ids: Ids) -> None:
        self.length += len(ids)
        if self.length > self._limit:
            raise TooManyTokens
        self._parts.append(ids)

    def ids(self) -> Ids:
        return np.concatenate(self._parts)


@dataclass(frozen=True, slots=True)
class _Call:
    """What holds for a whole group; `steps` keeps the ids of the steps met so far, by what precedes them."""

    control: ControlTokens
    max_tokens: int
    in_question: list[str]
    head: Ids
    steps: dict[tuple[str, str], EncodedText]


class StepPrompt:
    """The prompt of one checkpoint; safe to use from several threads."""

    def __init__(self, spec: VisualPRMSpec, tokenizer: Tokenizer) -> None:
        """Raises CheckpointError when the tokenizer is not one of this family, or outgrows the embedding."""
        if tokenizer.size > spec.decoder.vocab_size:
            raise CheckpointError(f"the tokenizer has {tokenizer.size} ids, the decoder {spec.decoder.vocab_size}")
        self._tokenizer = tokenizer
        self._tokens_per_tile = spec.tokens_per_tile
        self._system = [_template("system\n"), _template(spec.system_message)]
        if _CONTEXT in spec.system_message:
            raise CheckpointError(f"the system message has {_CONTEXT} in it")
        # Nothing merges across the seam, so all before it is the same for every candidate and tokenised once.
        seam = tokenizer.seam(_BEFORE_STEPS)
        if not seam:
            raise CheckpointError(f"tokenizer.model has pieces across all of {_BEFORE_STEPS!r}")
        self._after_question, self._before_first_step = _BEFORE_STEPS[:seam], _BEFORE_STEPS[seam:]
        self._start_turn = _ids(tokenizer.control_id("<|im_start|>"))
        self._end_turn = _ids(tokenizer.control_id("<|im_end|>"), *tokenizer.encode([_template("\n")]).ids)
        self._start_picture = _ids(tokenizer.control_id("<img>"))
        self._end_picture = _ids(tokenizer.control_id("</img>"))
        self._context = tokenizer.control_id(_CONTEXT)
        self._answer, self._to_readout = self._lay_out_answer()

    @property
    def least_step_tokens(self) -> int:
        """Tokens that a step adds to a prompt whatever it says: its user turn's start and its answer."""
        return len(self._start_turn) + len(self._answer)

    def encode_group(
        self,
        question: str,
        tiles_per_picture: Sequence[int],
        candidates: Sequence[Sequence[str]],
        control: ControlTokens,
        max_tokens: int,
    ) -> EncodedGroup:
        """Encode every candidate, a list of at least one step, or say why it cannot be scored.

        Raises MarkerCount when the question places another number of pictures.
        """
        turns = self._opening(place_pictures(question, len(tiles_per_picture)), len(tiles_per_picture))
        draft = _Draft(max_tokens)
        try:
            pictures, found = self._encode_opening(draft, turns, tiles_per_picture, control == "literal")
        except TooManyTokens:
            return EncodedGroup(_ids(), (), (_too_long(max_tokens),) * len(candidates))
        refused = _refusal(found, "question", control)
        if refused is not None:
            return EncodedGroup(_ids(), (), (refused,) * len(candidates))
        call = _Call(control, max_tokens, found, draft.ids(), {})
        return _share_prefix(call.head, pictures, [self._encode_candidate(steps, call) for steps in candidates])

    def _opening(self, question: str, pictures: int) -> list[list[list[Segment]]]:
        """The system turn and the first user turn up to the seam; a turn is runs of text with pictures between.

        The reference fills markers from the start of the whole prompt: a system message takes the first ones.
        """
        asked = [_template(_BEFORE_QUESTION), Segment(question), _template(self._after_question)]
        system = _split_at_markers(self._system, pictures)
        return [system, _split_at_markers(asked, pictures + 1 - len(system))]

    def _encode_opening(
        self, draft: _Draft, turns: list[list[list[Segment]]], tiles_per_picture: Sequence[int], literal: bool
    ) -> tuple[tuple[PictureRun, ...], list[str]]:
        pictures: list[PictureRun] = []
        found: list[str] = []
        draft.add(self._tokenizer.bos)
        for turn in turns:
            if draft.length > len(self._tokenizer.bos):
                draft.add(self._end_turn)
            draft.add(self._start_turn)
            for index, run in enumerate(turn):
                if index:
                    pictures.append(self._add_picture(draft, tiles_per_picture[len(pictures)]))
                ids, control = self._tokenizer.encode(run, literal=literal, max_tokens=draft.room)
                draft.add(ids)
                found.extend(control)
        return tuple(pictures), found

    def _add_picture(self, draft: _Draft, tiles: int) -> PictureRun:
        tokens = tiles * self._tokens_per_tile
        if tokens > draft.room:
            raise TooManyTokens
        draft.add(self._start_picture)
        run = PictureRun(draft.length, tokens)
        draft.add(np.full(tokens, self._context, np.int32))
        draft.add(self._end_picture)
        return run

    def _encode_candidate(self, steps: Sequence[str], call: _Call) -> EncodedCandidate | Unscorable:
        draft = _Draft(call.max_tokens - len(call.head))
        readouts: list[int] = []
        found: list[str] = []
        try:
            for index, step in enumerate(steps):
                found.extend(self._add_step(draft, step, index == 0, call))
                readouts.append(len(call.head) + draft.length + self._to_readout)
                draft.add(self._answer)
        except TooManyTokens:
            return _too_long(call.max_tokens)
        refused = _refusal(found, "candidate", call.control)
        detail = _detail(call.in_question, found, call.control)
        return refused or EncodedCandidate(draft.ids(), _ids(*readouts), detail)

    def _add_step(self, draft: _Draft, step: str, first: bool, call: _Call) -> tuple[str, ...]:
        """Add a user turn from the seam on, or a whole one; returns the control text in it."""
        if not first:
            draft.add(self._start_turn)
        before = self._before_first_step if first else _BEFORE_STEP
        encoded = call.steps.get((before, step))
        if encoded is None:
            segments, literal = [_template(before), Segment(step)], call.control == "literal"
            encoded = self._tokenizer.encode(segments, literal=literal, max_tokens=draft.room)
            call.steps[before, step] = encoded
        draft.add(encoded.ids)
        # The reference's template gives an empty message its role tag alone; the first one holds the question.
        if first or step:
            draft.add(self._end_turn)
        return encoded.control

    def _lay_out_answer(self) -> tuple[Ids, int]:
        """The assistant's turn, and how far into it its read-out is: the token before the `+`."""
        plus, _ = label_ids(self._tokenizer)
        role = self._tokenizer.encode([_template("assistant\n")]).ids
        if self._tokenizer.encode([_template("assistant\n+")]).ids.tolist() != [*role, plus]:
            raise CheckpointError("tokenizer.model has a piece that holds the answer's + and what precedes it")
        return _ids(*self._start_turn, *role, plus, *self._end_turn), len(role)


def _share_prefix(
    head: Ids, pictures: tuple[PictureRun, ...], candidates: Sequence[EncodedCandidate | Unscorable]
) -> EncodedGroup:
    """Move what all candidates have in common, beyond the head that was encoded once, into the prefix."""
    tails = [candidate.suffix for candidate in candidates if isinstance(candidate, EncodedCandidate)]
    shared = common_prefix(tails)
    prefix = np.concatenate([head, tails[0][:shared]]) if tails else head
    return EncodedGroup(
        prefix,
        pictures,
        tuple(
            replace(candidate, suffix=candidate.suffix[shared:])
            if isinstance(candidate, EncodedCandidate)
            else candidate
            for candidate in candidates
        ),
    )


def _split_at_markers(segments: Sequence[Segment], pictures: int) -> list[list[Segment]]:
    """The runs of text before, between and after the first `pictures` markers."""
    runs: list[list[Segment]] = [[]]
    for text, trusted in segments:
        first, *rest = text.split(MARKER, pictures)
        pictures -= len(rest)
        runs[-1].append(Segment(first, trusted))
        runs.extend([Segment(part, trusted)] for part in rest)
    return runs


def _template(text: str) -> Segment:
    return Segment(text, trusted=True)


def _ids(*ids: int) -> Ids:
    return np.array(ids, np.int32)


def _too_long(max_tokens: int) -> Unscorable:
    return Unscorable("too_long", f"the prompt has more than {max_tokens} tokens")


def _refusal(found: Sequence[str], where: str, control: ControlTokens) -> Unscorable | None:
    if control == "refuse" and found:
        return Unscorable("refused", f"control text in the {where}: {_names(found)}")
    if control == "parse" and _CONTEXT in found:
        return Unscorable("refused", f"{_CONTEXT} in the {where}: the reference cannot score it")
    return None


def _detail(in_question: Sequence[str], in_candidate: Sequence[str], control: ControlTokens) -> str | None:
    found = {"question": in_question, "candidate": in_candidate}
    places = [f"in the {where}: {_names(texts)}" for where, texts in found.items() if texts]
    if not places:
        return None
    became = "spelt out in plain pieces" if control == "literal" else "read as control tokens"
    return f"control text {', and '.join(places)}; {became}"


def _names(found: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(found))
    return " ".join(distinct[:_NAMED_AT_MOST]) + (" …" if len(distinct) > _NAMED_AT_MOST else "")
