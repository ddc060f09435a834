"""Scores prompts by one packed forward, computing nothing that an earlier one has left in the prefix cache."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from kernels.step_scores import step_scores
from models.decoder import Decoder
from models.forward import Work, decode
from models.positions import is_stretched
from models.prefix_cache import CacheCounts, Match, PrefixCache
from models.slot_pool import SlotPool
from models.token_tree import Keys, Path, TokenTree, build_tree, picture_rows

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One candidate's tokens by their keys, (tokens,) int64, and the positions that are read, (read-outs,) int32.

    Keys of pictures are `picture_keys` of a number that stands for one picture as the model sees it.
    """

    keys: Keys
    readouts: npt.NDArray[np.int32]


class TreeScorer:
    """A decoder with a head, and the prefix cache that its forwards share; one thread uses it.

    `head` is (labels, dim). Of `cache_bytes` as many tokens are held as their keys and values fill.
    """

    def __init__(self, decoder: Decoder, head: torch.Tensor, cache_bytes: int = 0, *, invariant: bool = False) -> None:
        self.decoder, self.head, self.invariant = decoder, head, invariant
        slots = cache_bytes // SlotPool.token_bytes(decoder.spec, head.dtype)
        self.cache = PrefixCache(slots)
        self.pool = SlotPool(decoder.spec, slots, head.dtype, head.device)

    @property
    def counts(self) -> CacheCounts:
        return self.cache.counts

    def begin(self, prompts: Sequence[Prompt]) -> "Scoring":
        """Find out what has to be computed; what is held of it stays so until the scoring ends."""
        return Scoring(self, prompts)


class Scoring:
    """One batch of prompts, from its plan to its logits. Run it to its end, or close it."""

    def __init__(self, scorer: TreeScorer, prompts: Sequence[Prompt]) -> None:
        self._scorer, self._prompts = scorer, prompts
        self._matches: list[Match | None] = []
        self._slots = np.empty(0, np.int64)
        self._closed = False
        try:
            for prompt in prompts:
                self._matches.append(self._match(prompt))
            self.tree = build_tree([_path(p, m) for p, m in zip(prompts, self._matches, strict=True)])
            kept = _cacheable(self.tree)
            self._slots = scorer.cache.allocate(len(kept))
        except BaseException:
            self.close()
            raise
        self._kept = kept[: len(self._slots)]

    @property
    def pictures(self) -> list[int]:
        """The numbers of the pictures whose features have rows to compute."""
        numbers, _ = picture_rows(self.tree.keys[self.tree.keys < 0])
        return [int(number) for number in np.unique(numbers)]

    @property
    def computed(self) -> list[int]:
        """The rows that each prompt is the first to need."""
        return self.tree.computed

    def run(self, features: Mapping[int, torch.Tensor]) -> Generator[None, None, list[Logits]]:
        """The forward, pausing now and then → for each prompt its (read-outs, labels) float32 logits.

        `features` has a picture's rows (tokens, dim) by its number, for all of `pictures`.
        """
        try:
            logits = yield from self._forward(features)
            # A number that is not finite may have reached whoever shares a block with its token.
            if all(np.isfinite(found).all() for found in logits):
                self._keep(logits)
            return logits
        finally:
            self.close()

    def close(self) -> None:
        """Let go of what is held for this batch, once."""
        if self._closed:
            return
        self._closed = True
        cache = self._scorer.cache
        cache.free(self._slots)
        for match in self._matches:
            if match is not None:
                cache.release(match)

    def _match(self, prompt: Prompt) -> Match | None:
        """None for a prompt whose keys and values are its own, because it is longer than the model's positions."""
        if is_stretched(self._scorer.decoder.spec.rope, len(prompt.keys)):
            return None
        return self._scorer.cache.match(prompt.keys[: _needed(prompt)])

    def _forward(self, features: Mapping[int, torch.Tensor]) -> Generator[None, None, list[Logits]]:
        decoder, head, tree = self._scorer.decoder, self._scorer.head, self.tree
        read = np.unique(np.concatenate([*tree.readouts, np.full(1, -1)]))[1:]
        found = np.empty((0, len(head)), np.float32)
        if len(read):
            lengths = [len(prompt.keys) for prompt in self._prompts]
            work = Work(tree, lengths, self._kept, self._slots, read)
            x = _embed(decoder, tree.keys, features)
            hidden = yield from decode(decoder, x, self._scorer.pool, work, invariant=self._scorer.invariant)
            rows = torch.arange(len(hidden), device=hidden.device)
            scores = step_scores(hidden, rows, decoder.final_norm, decoder.spec.rms_norm_eps, head)
            found = scores.logits.cpu().numpy()
        return [self._logits(index, read, found) for index in range(len(self._prompts))]

    def _logits(self, index: int, read: Keys, found: Logits) -> Logits:
        """Of one prompt: those just computed, and those that were known."""
        rows, match, readouts = self.tree.readouts[index], self._matches[index], self._prompts[index].readouts
        logits = np.empty((len(rows), len(self._scorer.head)), np.float32)
        new = rows >= 0
        logits[new] = found[np.searchsorted(read, rows[new])]
        for place in np.flatnonzero(~new).tolist():
            assert match is not None
            logits[place] = match.logits[int(readouts[place])]
        return logits

    def _keep(self, logits: Sequence[Logits]) -> None:
        """Hand what was computed to the cache, as far as it had slots for it."""
        slots = np.full(len(self.tree.keys), -1, np.int64)
        slots[self._kept] = self._slots
        for index, (prompt, match) in enumerate(zip(self._prompts, self._matches, strict=True)):
            if match is None:
                continue
            own = slots[self.tree.rows[index]]
            held = np.concatenate([match.slots, own[own >= 0]])
            known = {
                int(position): row
                for position, row in zip(prompt.readouts, logits[index], strict=True)
                if position < len(held)
            }
            self._scorer.cache.insert(prompt.keys[: len(held)], held, known)
        self._slots = self._slots[:0]


def _needed(prompt: Prompt) -> int:
    return int(prompt.readouts.max(initial=-1)) + 1


def _path(prompt: Prompt, match: Match | None) -> Path:
    if match is None:
        return Path(prompt.keys, prompt.readouts, alone=True)
    return Path(prompt.keys, prompt.readouts, match.slots, frozenset(match.logits))


def _cacheable(tree: TokenTree) -> Keys:
    """The rows that a later prompt may share, each behind its ancestors."""
    runs = [np.arange(n.row, n.row + n.length) for n in tree.nodes if not (n.again or tree.paths[n.path].alone)]
    return np.concatenate([np.empty(0, np.int64), *runs])


def _embed(decoder: Decoder, keys: Keys, features: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """(rows, dim) token embeddings, with the pictures' features in their rows."""
    device = decoder.embeddings.device
    x = functional.embedding(torch.from_numpy(np.maximum(keys, 0)).to(device), decoder.embeddings)
    places = np.flatnonzero(keys < 0)
    numbers, rows = picture_rows(keys[places])
    for number in np.unique(numbers).tolist():
        own = numbers == number
        picked = torch.from_numpy(rows[own]).to(device)
        x[torch.from_numpy(places[own]).to(device)] = features[number].index_select(0, picked)
    return x
