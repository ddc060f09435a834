"""VisualPRM's prompt: a question, its pictures and candidates' steps as token ids with read-outs. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from models.tokenizer import EncodedText, Ids, Segment, Tokenizer, TooManyTokens
from models.visual_prm.spec import VisualPRMSpec

MARKER = "<image>"

_CONTEXT = "<IMG_CONTEXT>"
_BEFORE_QUESTION = "user\n### Question:\n"
_BEFORE_STEPS = "\n\n### Solution Process:\n"
_BEFORE_STEP = "user\n"


def place_pictures(question: str, pictures: int) -> str:
    """Put one `<image>` line for each picture first, unless the question places them. Raises MarkerCount."""
    markers = question.count(MARKER)
    if pictures and not markers:
        return f"{MARKER}\n" * pictures + question
    if pictures and markers != pictures:
        raise MarkerCount("the question has", MARKER, markers, pictures)
    return question


def label_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the bare pieces `+` and `-`. Raises CheckpointError when the vocabulary lacks one."""
    return tokenizer.piece_id("+"), tokenizer.piece_id("-")


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
        self._system = [template("system\n"), template(spec.system_message)]
        if _CONTEXT in spec.system_message:
            raise CheckpointError(f"the system message has {_CONTEXT} in it")
        # Nothing merges across the seam, so all before it is the same for every candidate and tokenised once.
        seam = tokenizer.seam(_BEFORE_STEPS)
        if not seam:
            raise CheckpointError(f"tokenizer.model has pieces across all of {_BEFORE_STEPS!r}")
        self._after_question, self._before_first_step = _BEFORE_STEPS[:seam], _BEFORE_STEPS[seam:]
        self._start_turn = ids_of(tokenizer.control_id("<|im_start|>"))
        self._end_turn = ids_of(tokenizer.control_id("<|im_end|>"), *tokenizer.encode([template("\n")]).ids)
        self._start_picture = ids_of(tokenizer.control_id("<img>"))
        self._end_picture = ids_of(tokenizer.control_id("</img>"))
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
        draft = Draft(max_tokens)
        try:
            pictures, found = self._encode_opening(draft, turns, tiles_per_picture, control == "literal")
        except TooManyTokens:
            return EncodedGroup(ids_of(), (), (too_long(max_tokens),) * len(candidates))
        refused = _refusal(found, "question", control)
        if refused is not None:
            return EncodedGroup(ids_of(), (), (refused,) * len(candidates))
        call = _Call(control, max_tokens, found, draft.ids(), {})
        return share_prefix(call.head, pictures, [self._encode_candidate(steps, call) for steps in candidates])

    def _opening(self, question: str, pictures: int) -> list[list[list[Segment]]]:
        """The system turn and the first user turn up to the seam; a turn is runs of text with pictures between.

        The reference fills markers from the start of the whole prompt: a system message takes the first ones.
        """
        asked = [template(_BEFORE_QUESTION), Segment(question), template(self._after_question)]
        system = split_at_markers(self._system, MARKER, pictures)
        return [system, split_at_markers(asked, MARKER, pictures + 1 - len(system))]

    def _encode_opening(
        self, draft: Draft, turns: list[list[list[Segment]]], tiles_per_picture: Sequence[int], literal: bool
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

    def _add_picture(self, draft: Draft, tiles: int) -> PictureRun:
        tokens = tiles * self._tokens_per_tile
        if tokens > draft.room:
            raise TooManyTokens
        draft.add(self._start_picture)
        run = PictureRun(draft.length, tokens)
        draft.add(np.full(tokens, self._context, np.int32))
        draft.add(self._end_picture)
        return run

    def _encode_candidate(self, steps: Sequence[str], call: _Call) -> EncodedCandidate | Unscorable:
        draft = Draft(call.max_tokens - len(call.head))
        readouts: list[int] = []
        found: list[str] = []
        try:
            for index, step in enumerate(steps):
                found.extend(self._add_step(draft, step, index == 0, call))
                readouts.append(len(call.head) + draft.length + self._to_readout)
                draft.add(self._answer)
        except TooManyTokens:
            return too_long(call.max_tokens)
        refused = _refusal(found, "candidate", call.control)
        detail = describe({"question": call.in_question, "candidate": found}, call.control)
        return refused or EncodedCandidate(draft.ids(), ids_of(*readouts), detail)

    def _add_step(self, draft: Draft, step: str, first: bool, call: _Call) -> tuple[str, ...]:
        """Add a user turn from the seam on, or a whole one; returns the control text in it."""
        if not first:
            draft.add(self._start_turn)
        before = self._before_first_step if first else _BEFORE_STEP
        encoded = call.steps.get((before, step))
        if encoded is None:
            segments, literal = [template(before), Segment(step)], call.control == "literal"
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
        role = self._tokenizer.encode([template("assistant\n")]).ids
        if self._tokenizer.encode([template("assistant\n+")]).ids.tolist() != [*role, plus]:
            raise CheckpointError("tokenizer.model has a piece that holds the answer's + and what precedes it")
        return ids_of(*self._start_turn, *role, plus, *self._end_turn), len(role)


def _refusal(found: Sequence[str], where: str, control: ControlTokens) -> Unscorable | None:
    if control == "parse" and _CONTEXT in found:
        return Unscorable("refused", f"{_CONTEXT} in the {where}: the reference cannot score it")
    return refusal(found, where, control)
