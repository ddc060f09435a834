"""Token ids of IXC-2.5-Reward's golden cases, exactly."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from models.ixc_reward.prompt import ReferencePrompt
from models.tokenizer import Segment, Tokenizer
from tests.conformance.ixc_in_process import Case
from tests.conformance.report import Verdict

_CHATML = ["plugin", "interpreter", "action_end", "action_start", "im_end", "im_start"]


def check_ids(verdict: Verdict, encoded: ReferencePrompt, max_tokens: int, expected: Case) -> None:
    """A prompt by the reference's rules: its ids before it is cut, its pictures and its read-out after that."""
    fed = encoded.cut(max_tokens)
    runs = _mask_runs(fed)
    verdict.exactly("length_before_truncation", len(encoded.ids), expected["length_before_truncation"])
    verdict.exactly("length", len(fed.ids), expected["length"])
    verdict.exactly("im_mask_runs", runs, expected["im_mask_runs"])
    verdict.exactly("readout_index", len(fed.ids) - 1, expected["readout_index"])
    verdict.exactly("readout_token", "image" if runs[-1][0] else int(fed.ids[-1]), expected["readout_token"])
    listed = _listed(encoded)
    if "token_ids_with_images" in expected:
        verdict.exactly("token_ids_with_images", listed, expected["token_ids_with_images"])
    else:
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        verdict.exactly("token_ids_sha256", digest, expected["token_ids_sha256"])


def _listed(encoded: ReferencePrompt) -> list[int | str]:
    """Ids in order, and each run of picture tokens, be it of neighbours, as `img*N`."""
    listed: list[int | str] = []
    start = 0
    for is_picture, length in _mask_runs(encoded):
        listed += [f"img*{length}"] if is_picture else encoded.ids[start : start + length].tolist()
        start += length
    return listed


def _mask_runs(encoded: ReferencePrompt) -> list[list[int]]:
    mask = np.zeros(len(encoded.ids), np.int64)
    for run in encoded.pictures:
        mask[run.offset : run.offset + run.tokens] = 1
    ends = [*np.flatnonzero(np.diff(mask)).tolist(), len(mask) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [[int(mask[start]), end - start + 1] for start, end in zip(starts, ends, strict=True)]


def tokenizer_rows(rows: Sequence[Case], directory: Path) -> Iterator[Verdict]:
    """With the special tokens alone as added ones, and where that differs also with ChatML's."""
    model = SentencePieceProcessor()
    model.load(str(directory / "tokenizer.model"))
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    chatml = {f"<|{name}|>": 92538 + index for index, name in enumerate(_CHATML)}
    for row in rows:
        verdict = Verdict(row["id"])
        for key, added in (("part_ids", special), ("part_ids_if_chatml_added_tokens", special | chatml)):
            if key in row:
                verdict.exactly(key, _part_ids(Tokenizer(model, added), row["parts"]), row[key])
        yield verdict


def _part_ids(tokenizer: Tokenizer, parts: Sequence[str]) -> list[list[int]]:
    ids = [tokenizer.encode([Segment(part, trusted=True)]).ids.tolist() for part in parts]
    return [[*tokenizer.bos.tolist(), *ids[0]], *ids[1:]]
