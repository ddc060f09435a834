"""What the engine is compared with: other ways to score a workload by the same weights and the same operators.

Each takes a model and a workload and gives, for each candidate, its (read-outs, 2) float32 logits of `+` and `-`.
They share one forward: torch's matrix products, its fused causal attention with grouped keys and values, in place
where nothing is lost. `soft` and `soft_v2` re-state the reference: one prompt at a time, the whole vocabulary at
every position, in float32 once multiplied. `padded` is what a careful user of a batch would write.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from benchmarks.workloads import MINUS, PLUS, Model, Workload
from models.candidate import Candidate
from models.decoder import Decoder, DecoderLayer, split_qkv
from models.linear import Linear
from models.positions import rope_tables

Logits = npt.NDArray[np.float32]
Baseline = Callable[[Model, Workload], list[Logits]]
_Tables = tuple[torch.Tensor, torch.Tensor]


def soft_v2(model: Model, workload: Workload) -> list[Logits]:
    """The reference's one forward a candidate: its whole prompt, read out at every step."""
    return [_whole_vocabulary(model, candidate) for candidate in workload.candidates]


def soft(model: Model, workload: Workload) -> list[Logits]:
    """The reference's one forward a step: each prompt up to the step, read out at its end."""
    return [
        np.concatenate([_whole_vocabulary(model, call) for call in _calls(candidate)])
        for candidate in workload.candidates
    ]


def soft_sample(workload: Workload, calls: int = 2) -> tuple[Workload, float]:
    """A workload of some of `soft`'s calls, spread evenly over their lengths, and the factor to its whole time.

    The factor is that of the tokens. Where lengths are spread evenly, two calls understate attention, which grows
    with their square, by less than 1 % of itself.
    """
    every = sorted((call for one in workload.candidates for call in _calls(one)), key=lambda call: len(call.ids))
    chosen = [every[round((2 * index + 1) * (len(every) - 1) / (2 * calls))] for index in range(calls)]
    sample = Workload(f"{calls} of {len(every)} calls of {workload.name}", (tuple(chosen),))
    return sample, workload.call_tokens / sample.naive_tokens


def padded(model: Model, workload: Workload, at_once: int = 8) -> list[Logits]:
    """Batches of `at_once` candidates, padded on the right, their label logits at the read-outs alone."""
    candidates = workload.candidates
    batches = [candidates[start : start + at_once] for start in range(0, len(candidates), at_once)]
    return [logits for batch in batches for logits in _padded_batch(model, batch)]


BASELINES: dict[str, Baseline] = {"soft": soft, "soft_v2": soft_v2, "padded": padded}


def _calls(candidate: Candidate) -> list[Candidate]:
    """The prompt up to each step, with its end alone to read."""
    ends = candidate.readouts.tolist()
    return [Candidate(candidate.ids[: end + 1], np.array([end], np.int32), candidate.pictures) for end in ends]


@torch.inference_mode()
def _whole_vocabulary(model: Model, candidate: Candidate) -> Logits:
    hidden = _decode(model.decoder, _embed(model.decoder, candidate).unsqueeze(0)).squeeze(0)
    logits = functional.linear(_norm(model.decoder, hidden, model.decoder.final_norm), model.head).float()
    return logits[torch.from_numpy(candidate.readouts)][:, [PLUS, MINUS]].numpy()


@torch.inference_mode()
def _padded_batch(model: Model, candidates: Sequence[Candidate]) -> list[Logits]:
    """Causal attention hides the padding, which is behind, from every token; what it computes is dropped."""
    embedded = [_embed(model.decoder, candidate) for candidate in candidates]
    rope, longest = model.decoder.spec.rope, max(map(len, embedded))
    assert rope.scaling != "dynamic" or longest <= rope.max_positions, "one rotary base would not do for all"
    hidden = _decode(model.decoder, torch.nn.utils.rnn.pad_sequence(embedded, batch_first=True))
    counts = [len(candidate.readouts) for candidate in candidates]
    batch = torch.arange(len(candidates)).repeat_interleave(torch.tensor(counts))
    places = torch.from_numpy(np.concatenate([candidate.readouts for candidate in candidates])).long()
    read = _norm(model.decoder, hidden[batch, places], model.decoder.final_norm)
    logits = functional.linear(read, model.labels).float()
    return [part.numpy() for part in logits.split(counts)]


def _embed(decoder: Decoder, candidate: Candidate) -> torch.Tensor:
    """(tokens, dim), pictures' features in their places."""
    x = functional.embedding(torch.from_numpy(candidate.ids), decoder.embeddings)
    for picture in candidate.pictures:
        x[picture.offset : picture.offset + len(picture.features)] = picture.features
    return x


def _decode(decoder: Decoder, x: torch.Tensor) -> torch.Tensor:
    """(batch, length, dim) → hidden states before the final norm; overwrites x."""
    batch, length, _ = x.shape
    rows = x.flatten(0, 1)
    positions = torch.arange(length, device=x.device)
    cos, sin = rope_tables(decoder.spec.rope, decoder.spec.head_dim, positions, length)
    # Per token, halves paired: (length, 1, head_dim), rounded like the reference's to the type of the weights.
    tables = torch.cat([cos, cos], -1).to(x.dtype).unsqueeze(1), torch.cat([-sin, sin], -1).to(x.dtype).unsqueeze(1)
    for layer in decoder.layers:
        rows.add_(_attention(decoder, layer, rows, tables, batch))
        rows.add_(_mlp(decoder, layer, rows))
    return rows.view(x.shape)


def _attention(decoder: Decoder, layer: DecoderLayer, rows: torch.Tensor, tables: _Tables, batch: int) -> torch.Tensor:
    qkv = _linear(layer.qkv, _norm(decoder, rows, layer.attention_norm))
    q, k, v = (part.unflatten(0, (batch, -1)) for part in split_qkv(decoder.spec, qkv))
    q, k, v = (part.transpose(1, 2) for part in (_rotate(q, tables), _rotate(k, tables), v))
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return _linear(layer.output, attended.transpose(1, 2).flatten(2).flatten(0, 1))


def _mlp(decoder: Decoder, layer: DecoderLayer, rows: torch.Tensor) -> torch.Tensor:
    normal = _norm(decoder, rows, layer.mlp_norm)
    return _linear(
        layer.down, functional.silu(_linear(layer.gate, normal), inplace=True).mul_(_linear(layer.up, normal))
    )


def _norm(decoder: Decoder, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(rows, (rows.shape[-1],), weight, decoder.spec.rms_norm_eps)


def _rotate(x: torch.Tensor, tables: _Tables) -> torch.Tensor:
    """x (batch, length, heads, head_dim)."""
    cos, sin = tables
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _linear(linear: Linear, rows: torch.Tensor) -> torch.Tensor:
    return functional.linear(rows, linear.weight, linear.bias)
