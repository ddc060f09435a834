"""From candidates to what a head says at their read-outs: packed into one forward, or plainly one by one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from kernels.step_scores import step_scores, step_scores_reference
from models import plain
from models.candidate import Candidate
from models.decoder import Decoder, decode


def read_out(decoder: Decoder, head: torch.Tensor, candidates: Sequence[Candidate]) -> list[npt.NDArray[np.float32]]:
    """One packed forward; `head` (labels, dim) → for each candidate its (read-outs, labels) float32 logits."""
    if not candidates:
        return []
    x = torch.cat([_embed(decoder, candidate) for candidate in candidates])
    lengths = [len(candidate.ids) for candidate in candidates]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    hidden = decode(decoder, x, lengths, _picture_rows(decoder, candidates, starts))
    rows = np.concatenate([c.readouts + start for c, start in zip(candidates, starts, strict=True)])
    logits = step_scores(hidden[rows], decoder.final_norm, decoder.spec.rms_norm_eps, head)
    return np.split(logits.cpu().numpy(), np.cumsum([len(c.readouts) for c in candidates])[:-1])


def read_out_plain(decoder: Decoder, head: torch.Tensor, candidate: Candidate) -> torch.Tensor:
    """The same for one candidate, through `plain`: (read-outs, labels) float32 logits, differentiable."""
    hidden = plain.decode(decoder, _embed(decoder, candidate), _picture_rows(decoder, [candidate], [0]))
    rows = torch.tensor(candidate.readouts, dtype=torch.long)
    return step_scores_reference(hidden[rows], decoder.final_norm, decoder.spec.rms_norm_eps, head)


def _embed(decoder: Decoder, candidate: Candidate) -> torch.Tensor:
    """(tokens, dim) token embeddings with the pictures' features in the places kept for them."""
    ids = torch.tensor(candidate.ids, device=decoder.embeddings.device)
    x = functional.embedding(ids, decoder.embeddings)
    parts, done = [], 0
    for picture in candidate.pictures:
        parts += [x[done : picture.offset], picture.features]
        done = picture.offset + len(picture.features)
    return torch.cat([*parts, x[done:]])


def _picture_rows(decoder: Decoder, candidates: Sequence[Candidate], starts: Sequence[int]) -> torch.Tensor | None:
    """The packed rows (rows,) int64 that a decoder with partial LoRA adapts, or None when there are none."""
    if not decoder.spec.lora_rank:
        return None
    runs = [
        torch.arange(len(picture.features)) + start + picture.offset
        for candidate, start in zip(candidates, starts, strict=True)
        for picture in candidate.pictures
    ]
    return torch.cat(runs).to(decoder.embeddings.device) if runs else None
