"""From candidates to what a head says at their read-outs: packed into one forward, or plainly one by one."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from kernels.step_scores import step_scores_reference
from models import plain
from models.candidate import Candidate
from models.decoder import Decoder
from models.pausing import run_through
from models.token_tree import picture_keys
from models.tree_scorer import Prompt, TreeScorer


def read_out(decoder: Decoder, head: torch.Tensor, candidates: Sequence[Candidate]) -> list[npt.NDArray[np.float32]]:
    """One packed forward; `head` (labels, dim) → for each candidate its (read-outs, labels) float32 logits.

    Candidates share what they have in common, a picture by its features being one tensor. Nothing is kept.
    """
    prompts, features = prompts_of(candidates)
    return run_through(TreeScorer(decoder, head).begin(prompts).run(features))


def prompts_of(candidates: Sequence[Candidate]) -> tuple[list[Prompt], dict[int, torch.Tensor]]:
    """The candidates by keys, and their pictures' features by number; one tensor is one picture."""
    features = {id(picture.features): picture.features for one in candidates for picture in one.pictures}
    numbers = {name: number for number, name in enumerate(features)}
    return [_prompt(candidate, numbers) for candidate in candidates], dict(enumerate(features.values()))


def _prompt(candidate: Candidate, numbers: Mapping[int, int]) -> Prompt:
    keys = candidate.ids.astype(np.int64)
    for picture in candidate.pictures:
        rows = len(picture.features)
        keys[picture.offset : picture.offset + rows] = picture_keys(numbers[id(picture.features)], rows)
    return Prompt(keys, candidate.readouts)


def read_out_plain(decoder: Decoder, head: torch.Tensor, candidate: Candidate) -> torch.Tensor:
    """The same for one candidate, through `plain`: (read-outs, labels) float32 logits, differentiable."""
    hidden = plain.decode(decoder, _embed(decoder, candidate), _picture_rows(decoder, candidate))
    rows = torch.tensor(candidate.readouts, dtype=torch.long)
    return step_scores_reference(hidden, rows, decoder.final_norm, decoder.spec.rms_norm_eps, head).logits


def _embed(decoder: Decoder, candidate: Candidate) -> torch.Tensor:
    """(tokens, dim) token embeddings with the pictures' features in the places kept for them."""
    ids = torch.tensor(candidate.ids, device=decoder.embeddings.device)
    x = functional.embedding(ids, decoder.embeddings)
    parts, done = [], 0
    for picture in candidate.pictures:
        parts += [x[done : picture.offset], picture.features]
        done = picture.offset + len(picture.features)
    return torch.cat([*parts, x[done:]])


def _picture_rows(decoder: Decoder, candidate: Candidate) -> torch.Tensor | None:
    """The rows (rows,) int64 that a decoder with partial LoRA adapts, or None when there are none."""
    if not decoder.spec.lora_rank:
        return None
    runs = [torch.arange(len(picture.features)) + picture.offset for picture in candidate.pictures]
    return torch.cat(runs).to(decoder.embeddings.device) if runs else None
