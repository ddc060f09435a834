"""A sequence classifier by transformers' own code: one sequence a forward, what sequences share computed once."""

import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from models.checkpoint import CheckpointError
from models.sequence_classifier.plan import Run
from models.sequence_classifier.spec import check_plain
from models.tokenizer import Ids
from models.weights import stored_tensors

Scores = npt.NDArray[np.float32]

# Rotary positions that change with a sequence's length: its keys are then its own.
_CHANGING_ROPE = frozenset({"dynamic", "longrope"})
_TRIED, _TRIED_PREFIX = 48, 32
# How far a shared prefix may move a score, times 1 + |score|.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}
# Heads of the language model that a reward model was made of.
_UNREAD = "lm_head."


@dataclass(frozen=True, slots=True)
class SequenceClassifier:
    """The loaded model. `shares`: a prefix may be computed once for several sequences."""

    model: PreTrainedModel
    shares: bool


def load(
    directory: Path,
    dtype: torch.dtype,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> SequenceClassifier:
    """Load a checkpoint's safetensors into `dtype` on `device`.

    Raises CheckpointError for a checkpoint that needs code of its own, and for weights that are missing, left over,
    of another shape or not finite.
    """
    check_plain(directory)
    total = sum(tensor.nbytes for tensor in stored_tensors(directory).values())
    if progress is not None:
        progress(0, total)
    model = _read(directory, dtype)
    module: torch.nn.Module = model
    module.to(device).train(mode=False)
    for name, parameter in model.named_parameters():
        if not torch.stack(torch.aminmax(parameter.detach())).isfinite().all():
            raise CheckpointError(f"{directory}: {name!r}: expected numbers finite in {str(dtype)[6:]}")
    if progress is not None:
        progress(total, total)
    return SequenceClassifier(model, _shares(model))


def read_part(classifier: SequenceClassifier, ids: Ids) -> Ids:
    """As much of a sequence as its score depends on: transformers reads the last token that is not padding.

    That is all of it for a model that does not share, which may look ahead.
    """
    pad = classifier.model.config.get_text_config().pad_token_id
    if not classifier.shares or pad is None:
        return ids
    meant = np.flatnonzero(ids != pad)
    return ids[: int(meant[-1]) + 1] if len(meant) else ids[:1]


def score(
    classifier: SequenceClassifier, sequences: Sequence[Ids], runs: Sequence[Run]
) -> Generator[None, None, list[Scores]]:
    """The runs in their order, pausing behind each → each sequence's (1, 1) float32 score."""
    scores: list[Scores] = [np.full((1, 1), np.nan, np.float32) for _ in sequences]
    last_child = {run.parent: index for index, run in enumerate(runs) if run.parent is not None}
    caches: dict[int, DynamicCache] = {}
    for index, run in enumerate(runs):
        before = None if run.parent is None else caches[run.parent]
        if run.parent is not None and last_child[run.parent] == index:
            del caches[run.parent]
        found, cache = _forward(classifier.model, sequences[run.of], run, before, keep=index in last_child)
        if cache is not None:
            caches[index] = cache
        for sequence in run.ends:
            scores[sequence] = found
        yield
    return scores


def score_plain(model: PreTrainedModel, ids: Ids) -> torch.Tensor:
    """transformers' own score of one whole sequence, (1, 1)."""
    logits: torch.Tensor = model(input_ids=_row(model, ids)).logits
    return logits


def _forward(
    model: PreTrainedModel, ids: Ids, run: Run, before: DynamicCache | None, *, keep: bool
) -> tuple[Scores, DynamicCache | None]:
    """A run's score, which is that of its last token, and with `keep` the keys and values up to there."""
    if before is None and not keep:
        logits, cache = score_plain(model, ids[run.start : run.stop]), None
    else:
        cache = DynamicCache(config=model.config) if before is None else _fork(before)
        logits = model(input_ids=_row(model, ids[run.start : run.stop]), cache=cache, use_cache=True).logits
    return logits.float().cpu().numpy(), cache if keep else None


def _row(model: PreTrainedModel, ids: Ids) -> torch.Tensor:
    """(1, tokens) int64."""
    return torch.tensor(ids, dtype=torch.long, device=model.device)[None]


def _fork(cache: DynamicCache) -> DynamicCache:
    """The same keys and values, to be grown apart: a layer that grows makes new tensors."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def _read(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # Told below, as what is missing is.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{directory}: transformers cannot load it: {reason}") from error
    left_over = [name for name in found["unexpected_keys"] if not name.startswith(_UNREAD)]
    wrong = {
        "tensors missing": found["missing_keys"],
        "tensors not part of this model": left_over,
        "tensors of another shape": [name for name, *_ in found["mismatched_keys"]],
    }
    for what, names in wrong.items():
        if names:
            raise CheckpointError(f"{directory}: {len(names)} {what}: {', '.join(map(repr, sorted(names)[:3]))}")
    assert isinstance(model, PreTrainedModel)
    return model


def _shares(model: PreTrainedModel) -> bool:
    """Whether a token's keys depend on those before it alone, and all are kept: known by its parts, then tried."""
    text = model.config.get_text_config()
    if not isinstance(model, GenericForSequenceClassification) or _changes_rope(getattr(text, "rope_parameters", None)):
        return False
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    ids = np.arange(1, _TRIED + 1, dtype=np.int32) % text.vocab_size
    if text.pad_token_id is not None:
        ids[ids == text.pad_token_id] = (text.pad_token_id + 1) % text.vocab_size
    return _agrees(model, ids)


@torch.inference_mode()
def _agrees(model: PreTrainedModel, ids: Ids) -> bool:
    """Whether a sequence in two runs has the score that it has in one."""
    _, prefix = _forward(model, ids, Run(0, 0, _TRIED_PREFIX, None, ()), None, keep=True)
    parted, _ = _forward(model, ids, Run(0, _TRIED_PREFIX, len(ids), 0, (0,)), prefix, keep=False)
    whole = score_plain(model, ids).float().cpu().numpy()
    tolerance = _TOLERANCE.get(model.dtype, 0.0)
    return bool(np.abs(parted - whole).max() <= tolerance * (1 + np.abs(whole).max()))


def _changes_rope(parameters: object) -> bool:
    """Parameters may be given for each kind of layer."""
    if not isinstance(parameters, dict):
        return False
    nested = any(_changes_rope(value) for value in parameters.values())
    return nested or parameters.get("rope_type") in _CHANGING_ROPE
